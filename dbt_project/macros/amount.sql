{# Minor units as an amount with four decimals, exactly; unit_e4 is the minor unit x 10,000. #}
{% macro amount(minor, unit_e4) -%}
    cast(
        cast(cast({{ minor }} as hugeint) * {{ unit_e4 }} as decimal(34, 0))
        * cast(0.0001 as decimal(4, 4)) as decimal(20, 4)
    )
{%- endmacro %}
