-- What follows from a closed period's charges; beside period_seal, which older closings keep.

create function period_derived_seal(sealed_entity text, sealed_period text) returns text
language sql stable as $$
  with told as (
    select 'tax' as kind, concat_ws(E'\x1f', tax_id, document_no, line_no, part_no, item_no,
      jurisdiction, tax, rate, compound, treatment, pricing, currency, taxable_minor, base_minor,
      amount_minor) as content
    from posted_tax where entity_id = sealed_entity and accounting_period = sealed_period
    union all
    select 'derived', concat_ws(E'\x1f', entry_id, purpose, item, entry_no, level, account_id,
      service_id, product_id, kind, gl_class, currency, amount_minor)
    from derived_entry where entity_id = sealed_entity and accounting_period = sealed_period
  )
  select encode(sha256(convert_to(coalesce(string_agg(part, E'\n' order by part), ''), 'UTF8')),
                'hex')
  from (
    select concat_ws(' ', kind, count(*),
      sum(('x' || substr(md5(content), 1, 15))::bit(60)::bigint)) as part
    from told group by kind
  ) as parts
$$;
