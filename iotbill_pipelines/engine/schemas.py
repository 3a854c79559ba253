"""Every table of the flow: the only thing that stages share.

A :class:`Table` is declared once; DuckDB types, Arrow schemas, pandera checks, the lake's layout
and the documentation are derived from it. Names say units; money is ``amount_minor`` (integer
minor units of the row's currency); quantities are integers of the usage class's unit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

_ARROW = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")

RATE = "DECIMAL(30,12)"
"""Type of every unit rate and price (RULEBOOK §0.1)."""


@dataclass(frozen=True)
class Column:
    """A column: its SQL type, whether it may be null, and what it means."""

    name: str
    type: str
    doc: str
    nullable: bool = False

    @property
    def portable_type(self) -> str:
        """The type as every engine of :mod:`engine.compute` takes it in a cast."""
        return "string" if self.type == "VARCHAR" else self.type

    @property
    def arrow(self) -> pa.DataType:
        if match := _DECIMAL.fullmatch(self.type):
            return pa.decimal128(int(match[1]), int(match[2]))
        return _ARROW[self.type]


@dataclass(frozen=True)
class Table:
    """A relation: its grain in words, its columns in order, the key that identifies a row.

    Columns that are added later are nullable: they are null in the files written before.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition_by: tuple[str, ...] = ()

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.arrow, nullable=c.nullable) for c in self.columns])

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @property
    def column_list(self) -> str:
        """The columns in order, for a select list."""
        return ", ".join(self.column_names)


def _table(name: str, doc: str, columns: str, key: str, partition_by: str = "") -> Table:
    """Read ``name TYPE[?] meaning`` lines; a question mark marks a nullable column."""
    parsed = []
    for line in columns.strip().splitlines():
        column, kind, meaning = line.split(None, 2)
        kind = kind.replace("RATE", RATE)
        parsed.append(Column(column, kind.rstrip("?"), meaning, kind.endswith("?")))
    return Table(name, doc, tuple(parsed), tuple(key.split()), tuple(partition_by.split()))


# ---------------------------------------------------------------- usage, as carriers deliver it

USAGE_RECORD = _table(
    "usage_record",
    "One normalised usage event (UDR), accepted by validation, before dedup and guiding.",
    """
    file_key       BIGINT     first 60 bits of the landed file's SHA-256
    line_no        BIGINT     line (or element, or spreadsheet row) in the file, from 1
    feed_id        VARCHAR    feed that delivered it
    dedup_key      VARCHAR    vendor record id, or a hash of its identity (RULEBOOK §5)
    content_hash   VARCHAR    md5 of the normalised content; same key and content = duplicate
    usage_month    VARCHAR    UTC month of event_start, YYYY-MM; the lake's partition
    event_start    TIMESTAMP  UTC
    event_end      TIMESTAMP? UTC
    event_text     VARCHAR    the time as the carrier wrote it
    uid_type       VARCHAR    iccid, imsi, msisdn, eid, imei, ip, deveui, ...
    uid_value      VARCHAR    canonical identifier
    usage_class    VARCHAR    data, sms_mo, voice_mt, uplink, ...
    quantity       BIGINT     in the unit of the usage class: bytes, seconds, counts, micro-units
    quantity_up    BIGINT?    uplink part of quantity, where told
    quantity_down  BIGINT?    downlink part of quantity, where told
    mcc            VARCHAR?   visited network's country code, 3 digits
    mnc            VARCHAR?   visited network's code, 2 or 3 digits (both are distinct)
    region         VARCHAR?   rate zone as the carrier names it
    apn            VARCHAR?   access point name
    rat            VARCHAR?   radio access type
    peer_number    VARCHAR?   other party, E.164 or short code
    session_id     VARCHAR?   carrier's session
    sequence_no    BIGINT?    position in the session
    session_key    VARCHAR?   hash of the session's identity, on feeds that correlate parts
    part           VARCHAR?   start, interim, stop, or whole (a session in one record)
    vendor_cost    RATE?      cost printed on the record, informative
    vendor_currency VARCHAR?  its currency
    attributes     VARCHAR?   JSON of further mapped fields
    flags          VARCHAR?   space-separated: ambiguous_time, nonexistent_time, ...
    """,
    key="file_key line_no",
    partition_by="usage_month file_key",
)

REJECTED_RECORD = _table(
    "rejected_record",
    "A record that validation could not use; kept with reason, field and value.",
    """
    file_key    BIGINT   landed file
    line_no     BIGINT   line in the file; 0 for the file as a whole
    feed_id     VARCHAR  feed
    outcome     VARCHAR  rejected, or ignored (filtered out on purpose)
    reason_code VARCHAR  stable code such as invalid_timestamp, filter:record_type
    field       VARCHAR? source or target field at fault
    value       VARCHAR? its text
    message     VARCHAR  what rule was broken and what to do
    quantity    BIGINT?  quantity if it could be read
    raw_text    VARCHAR? the record as delivered
    """,
    key="file_key line_no",
    partition_by="file_key",
)

SUSPENDED_RECORD = _table(
    "suspended_record",
    "A valid record that cannot be rated yet: no owner, no offer, no rate, or a conflict.",
    """
    file_key    BIGINT     landed file
    line_no     BIGINT     line
    feed_id     VARCHAR    feed
    usage_month VARCHAR    UTC month of the event
    event_start TIMESTAMP  UTC
    uid_type    VARCHAR    identifier type
    uid_value   VARCHAR    identifier
    usage_class VARCHAR    class
    quantity    BIGINT     in the class's unit
    reason_code VARCHAR    no_owner, no_offer, no_rate, late, conflict, incomplete_session, ...
    detail      VARCHAR    what is missing, in words
    service_id  VARCHAR?   owner if known
    level       VARCHAR?   seller level that could not be rated
    other_file_key BIGINT? file of the record that it conflicts with
    other_line_no  BIGINT? its line
    """,
    key="file_key line_no",
    partition_by="usage_month",
)

DUPLICATE_RECORD = _table(
    "duplicate_record",
    "A record whose key was delivered before with the same content, or that a newer version of a "
    "restating feed replaced (RULEBOOK §5, MD-04).",
    """
    file_key      BIGINT  landed file of the copy
    line_no       BIGINT  line of the copy
    feed_id       VARCHAR feed
    usage_month   VARCHAR UTC month of the event
    quantity      BIGINT  quantity of the copy
    kept_file_key BIGINT  file of the record that was kept
    kept_line_no  BIGINT  line of the record that was kept
    reason_code   VARCHAR? restated; null for a plain copy
    """,
    key="file_key line_no",
    partition_by="usage_month",
)

USAGE_OUTCOME = _table(
    "usage_outcome",
    "What became of a file's accepted records in a UTC month: the conservation law's right side.",
    """
    file_key    BIGINT   landed file
    usage_month VARCHAR  UTC month of the events
    outcome     VARCHAR  kept, duplicate or suspended
    reason_code VARCHAR? why suspended; restated; merged (a part of another record's event)
    records     BIGINT   records
    quantity    BIGINT   sum of quantity as delivered, over all usage classes
    """,
    key="file_key usage_month outcome reason_code",
)

USAGE_PART = _table(
    "usage_part",
    "A record that went into a usage event with others: the parts of a session (RULEBOOK §5). The "
    "event stands at the address of its first part, in that part's UTC month.",
    """
    event_file_key BIGINT  file of the event
    event_line_no  BIGINT  line of the event
    usage_month    VARCHAR UTC month of the event; the lake's partition
    file_key       BIGINT  file of the part
    line_no        BIGINT  line of the part
    feed_id        VARCHAR feed of the part
    part_month     VARCHAR UTC month of the part
    part           VARCHAR start, interim, stop
    moment         TIMESTAMP UTC time of the part
    quantity       BIGINT  as delivered: an amount, or a counter's reading
    counted_quantity BIGINT what it adds to the event
    """,
    key="file_key line_no",
    partition_by="usage_month",
)

NEARBY_RECORD = Table(
    "nearby_record",
    "Records of other UTC months that decide on records of ``rated_month``: copies of the same "
    "key, parts of the same session, the last reading of a counter before the month.",
    (*USAGE_RECORD.columns, Column("rated_month", "VARCHAR", "UTC month that they matter to")),
    ("rated_month", "file_key", "line_no"),
    ("rated_month",),
)

# ---------------------------------------------------------------- how feeds are mediated

FEED_POLICY = _table(
    "feed_policy",
    "How records of a feed are mediated (RULEBOOK §5); a feed without a row delivers whole records "
    "and shares its keys with no other.",
    """
    feed_id         VARCHAR  feed
    family          VARCHAR  feeds of one family share record keys and sessions
    restating       BOOLEAN  of records of one key the newest file version holds, not a conflict
    combine         VARCHAR? session: parts make one event; increments: readings become differences
    counting        VARCHAR? sum, cumulative or elapsed: what quantity means on a part
    needs_start     BOOLEAN  a session is complete only with its start
    needs_stop      BOOLEAN  ... only with its final record
    needs_sequence  BOOLEAN  ... only without a gap in its sequence numbers
    first_sequence  BIGINT?  number of a session's first part, where known
    timeout_seconds BIGINT   a longer silence ends a session
    on_timeout      VARCHAR  release (flagged) or hold an incomplete session that timed out
    wrap_at         BIGINT?  where a counter starts over at zero; null = a decrease is a reset
    first_reading   VARCHAR  zero: a counter's first reading counts whole; baseline: it counts 0
    """,
    key="feed_id",
)

FILE_VERSION = _table(
    "file_version",
    "Which file of a restating feed is newer. A file without a row is the oldest.",
    """
    file_key   BIGINT landed file
    version_no BIGINT greater is newer
    """,
    key="file_key",
)

LATE_ARRIVAL = _table(
    "late_arrival",
    "A file that landed after a usage period was closed: its records of that period are late "
    "(RULEBOOK §§5, 11).",
    """
    file_key     BIGINT  landed file
    usage_period VARCHAR period that was closed before
    late_days    BIGINT  whole days between the close and the landing
    held         BOOLEAN the feed's policy holds records that are so late
    """,
    key="file_key usage_period",
)

FEED_WATERMARK = _table(
    "feed_watermark",
    "The newest event that is known of a family of feeds: silence is measured against it.",
    """
    family       VARCHAR   family
    newest_event TIMESTAMP UTC
    """,
    key="family",
)

# ---------------------------------------------------------------- reference data, as known at T

REFERENCE = {
    table.name: table
    for table in (
        _table(
            "account",
            "A party: customer, reseller or vendor.",
            """
            account_id        VARCHAR  id
            name              VARCHAR  name on documents
            kind              VARCHAR  customer, reseller or vendor
            parent_account_id VARCHAR? account it reports to
            entity_id         VARCHAR  our legal entity that deals with it
            billing_zone      VARCHAR  IANA zone whose dates count (RULEBOOK §0.3)
            currency          VARCHAR  ISO 4217
            customer_group    VARCHAR? for reports
            bill_day          INTEGER? day 1..31 on which its billing months begin; null = the 1st
            """,
            key="account_id",
        ),
        _table(
            "service",
            "A SIM or device subscribed by an account.",
            """
            service_id VARCHAR  id
            account_id VARCHAR  owner; another owner is another service
            label      VARCHAR? for people
            """,
            key="service_id",
        ),
        _table(
            "service_identifier",
            "Which service an identifier meant, and when (UTC, half-open).",
            """
            uid_type   VARCHAR    iccid, imsi, ...
            uid_value  VARCHAR    canonical
            service_id VARCHAR    service
            valid_from TIMESTAMP  UTC, inclusive
            valid_to   TIMESTAMP? UTC, exclusive; null = open
            """,
            key="uid_type uid_value valid_from",
        ),
        _table(
            "service_state",
            "State history of a service; the last change of a day owns it (ST-04).",
            """
            service_id VARCHAR   service
            changed_at TIMESTAMP local time of the change in the account's billing zone
            state      VARCHAR   user-defined state
            """,
            key="service_id changed_at",
        ),
        _table(
            "service_offer",
            "Which offer prices a service at each level of the seller chain.",
            """
            service_id       VARCHAR service
            level            VARCHAR retail, wholesale or vendor (RULEBOOK §7)
            payer_account_id VARCHAR account that pays (retail) or that we pay (vendor)
            offer_id         VARCHAR offer
            valid_from       DATE    local date, inclusive
            valid_to         DATE?   exclusive; null = open
            """,
            key="service_id level valid_from",
        ),
        _table(
            "contract",
            "A signed contract of an account, or of one service of it (RULEBOOK §4).",
            """
            contract_id         VARCHAR  id
            account_id          VARCHAR  account that signed
            service_id          VARCHAR? service it is for; null = the whole account
            template_id         VARCHAR? template whose terms were copied at signing
            account_contract_id VARCHAR? account contract that it ends with (co-termination)
            start_date          DATE     first day of the first term
            end_date            DATE?    first day after the first term; null = by its terms
            terminated_on       DATE?    first day without contract, where it was ended early
            termination_status  VARCHAR? why it was ended: a status of its terms
            own_terms           VARCHAR? customer terms, JSON: keys that replace the template's
            """,
            key="contract_id",
        ),
        _table(
            "contract_terms",
            "The template's terms as they were when the contract was signed.",
            """
            contract_id VARCHAR contract
            template_id VARCHAR template they were copied from
            terms       VARCHAR the copy, JSON
            """,
            key="contract_id",
        ),
        _table(
            "contract_suspension",
            "Days on which a contract stood still (ST-23).",
            """
            contract_id VARCHAR contract
            start_date  DATE    first day
            end_date    DATE    first day after
            """,
            key="contract_id start_date",
        ),
    )
}
"""Inventory, loaded from files and kept bitemporally; snapshots are these tables as known at T."""

CATALOG = {
    table.name: table
    for table in (
        _table(
            "currency",
            "Currencies in use.",
            """
            currency     VARCHAR ISO 4217
            minor_digits INTEGER decimals of the minor unit
            """,
            key="currency",
        ),
        _table(
            "state",
            "User-defined service states on the four core states (RULEBOOK §1).",
            """
            state      VARCHAR name
            core_state VARCHAR prospect, active, suspended, cancelled
            extends_terms BOOLEAN each day in it moves the agreed end of the service's offers by one
            """,
            key="state",
        ),
        _table(
            "state_transition",
            "Allowed state changes; NEW is where a service starts.",
            """
            from_state VARCHAR state or NEW
            to_state   VARCHAR state
            """,
            key="from_state to_state",
        ),
        _table(
            "product",
            "What is sold: usage class or recurring item, with GL and tax codes.",
            """
            product_id   VARCHAR id
            name         VARCHAR name on documents
            charge_type  VARCHAR usage, recurring, one_time, overage
            usage_class  VARCHAR? for usage
            gl_class     VARCHAR key for GL mapping
            tax_code     VARCHAR tax code
            commit_eligible BOOLEAN counts towards contract commitments
            hardware     BOOLEAN hardware, which commitments leave out unless they say otherwise
            """,
            key="product_id",
        ),
        _table(
            "zone_member",
            "Zone sets: which networks belong to which price zone.",
            """
            zone_set_id VARCHAR zone set
            mcc         VARCHAR? country code, null = any
            mnc         VARCHAR? network code, null = any
            region      VARCHAR? carrier's region text, null = any
            specificity INTEGER 3 network, 2 country, 1 region, 0 any (RULEBOOK §6)
            zone        VARCHAR zone
            """,
            key="zone_set_id specificity mcc mnc region",
        ),
        _table(
            "time_window",
            "Windows of the local clock that prices may be for (RT-18..21).",
            """
            window_no     INTEGER from 1: place in the text of a band
            window_id     VARCHAR name
            days          VARCHAR kinds of days: mon tue ... sun holiday
            starts_minute INTEGER minute of the local day, inclusive
            ends_minute   INTEGER exclusive; not after the start: the window passes midnight
            calendar_id   VARCHAR? holidays that count as days of kind holiday
            """,
            key="window_no",
        ),
        _table(
            "holiday",
            "Days of holiday calendars.",
            """
            calendar_id VARCHAR calendar
            day         VARCHAR YYYY-MM-DD, or MM-DD for every year
            """,
            key="calendar_id day",
        ),
        _table(
            "record_attribute",
            "Attributes of records that conditions may ask for.",
            """
            name VARCHAR key of the record's attributes
            kind VARCHAR text, number or list
            """,
            key="name",
        ),
        _table(
            "usage_condition",
            "Conditions on records, see engine.conditions.",
            """
            condition_no INTEGER from 1: place in the text of a record's traits
            expression   VARCHAR as written
            """,
            key="condition_no",
        ),
        _table(
            "price_condition",
            "Conditions that must all hold for a price to apply.",
            """
            price_id     VARCHAR price
            condition_no INTEGER condition
            """,
            key="price_id condition_no",
        ),
        _table(
            "offer",
            "Prices of products for a channel at a level of the seller chain.",
            """
            offer_id      VARCHAR id
            name          VARCHAR name
            level         VARCHAR retail, wholesale, vendor
            currency      VARCHAR ISO 4217
            zone_set_id   VARCHAR? zone set its usage prices refer to
            share_plan_id VARCHAR? pool plan its services draw from first
            plan_change   VARCHAR day: a change holds from its day; cycle: see terms.SharePlan
            grade         BIGINT  the higher one is the upgrade
            brought_quantity BIGINT what a service contributes to pools; decides equal grades
            """,
            key="offer_id",
        ),
        _table(
            "first_use",
            "Offers whose services wait for their first use (RULEBOOK §2).",
            """
            offer_id      VARCHAR offer
            waiting_state VARCHAR state in which a service waits
            active_state  VARCHAR state that first use, or the end of the window, puts it in
            policy        VARCHAR split or next_event
            window_days   BIGINT? days after which it is active anyway
            """,
            key="offer_id",
        ),
        _table(
            "first_use_threshold",
            "How much use of a class makes a waiting service active.",
            """
            offer_id           VARCHAR offer
            usage_class        VARCHAR class
            threshold_quantity BIGINT  class units; reaching it counts
            """,
            key="offer_id usage_class",
        ),
        _table(
            "price_override",
            "Offers that price usage instead of a service's own, by level and date (RT-32).",
            """
            override_id VARCHAR id
            scope       VARCHAR line_item, account_contract, bucket_tier, service, package, ...
            scope_rank  INTEGER place of the scope, from 1; the service's own offer follows package
            priority    INTEGER order of trial over all overrides
            target_id   VARCHAR service, account, share plan or offer that it is for
            level       VARCHAR level of the seller chain
            offer_id    VARCHAR offer whose usage charges hold
            valid_from  DATE    local date, inclusive
            valid_to    DATE?   exclusive; null = open
            """,
            key="override_id",
        ),
        _table(
            "share_plan",
            "A pool plan: who shares, and how overage is attributed (RULEBOOK §3).",
            """
            share_plan_id   VARCHAR id
            currency        VARCHAR ISO 4217
            share_level     VARCHAR account, parent or root
            levels_up       BIGINT  accounts above the service's own that share, for parent
            cycle           VARCHAR windows that are pools of their own, see calendars.Cycle
            activation      VARCHAR participating_service or selling_service
            join_policy     VARCHAR full or prorate_join
            billable        VARCHAR how services are counted that fill a pool, see terms.SharePlan
            attribution     VARCHAR policy, see terms.SharePlan
            """,
            key="share_plan_id",
        ),
        _table(
            "share_bucket",
            "A bucket of a pool plan; one pool per bucket and share-level account.",
            """
            bucket_id        VARCHAR plan, or plan.bucket
            share_plan_id    VARCHAR plan
            growth           VARCHAR fixed or variable
            fixed_quantity   BIGINT  size of a fixed bucket, class units
            minimum_quantity BIGINT  least size of it
            step_quantity    BIGINT  it grows in whole steps of so many units; 0 = one by one
            extra_quantity   BIGINT  overage is sold as further pools of so many units; 0 = priced
            sized_by_class   VARCHAR? class whose use brings units
            sized_quantity   BIGINT  units that it brings ...
            sized_each       BIGINT  ... for so many units of that class
            rollover_periods BIGINT  periods in which unused units can still be used
            rollover_maximum BIGINT? most that is carried on
            by_unit          BOOLEAN drawn record by record in order of time, not by sums
            overage_charge_id VARCHAR charge that prices the overage
            """,
            key="bucket_id",
        ),
        _table(
            "share_participant",
            "Offers whose services share a bucket, and what each service brings.",
            """
            offer_id  VARCHAR offer
            bucket_id VARCHAR bucket
            contribution_quantity BIGINT class units; 0 = participates without contributing
            """,
            key="offer_id bucket_id",
        ),
        _table(
            "share_draw",
            "Which buckets an offer's use of a class draws from, one after the other (SP-22).",
            """
            offer_id    VARCHAR offer
            usage_class VARCHAR class
            place       BIGINT  place in the order, from 1
            bucket_id   VARCHAR bucket
            layer       BIGINT  buckets are settled by layer: what spills goes to a later one
            """,
            key="offer_id usage_class place",
        ),
        _table(
            "share_seller",
            "Offers whose services open a share plan for their account.",
            """
            offer_id      VARCHAR offer
            share_plan_id VARCHAR plan with activation selling_service
            """,
            key="offer_id share_plan_id",
        ),
        _table(
            "charge",
            "A priced item of an offer.",
            """
            charge_id            VARCHAR id
            offer_id             VARCHAR? offer; null for a share plan's overage
            product_id           VARCHAR product
            kind                 VARCHAR usage, recurring, transition, overage, combined
            external_code        VARCHAR? charge code on the vendor's invoice
            usage_class          VARCHAR? for usage and overage
            unit_size            BIGINT  class units per priced unit: 1000000 for a decimal MB
            counts               VARCHAR quantity, events (records) or cost (what the record cost)
            time_policy          VARCHAR start_time, or split: a duration is cut at window borders
            aggregation          VARCHAR sum, peak or distinct, over the records of a period
            usage_key            VARCHAR? what records are told apart by: session, network, ...
            scope                VARCHAR service, or account: its services counted together
            increment_initial    BIGINT  first increment, class units
            increment_subsequent BIGINT  further increments, class units
            increment_point      VARCHAR record, session, service_period or pool_period
            allowance_quantity   BIGINT  free units per service and period, before tiers
            allowance_events     BIGINT  free records per service and period, the earliest
            allowance_by_days    BOOLEAN free units are granted for days on the offer, not whole
            allowance_windows    BIGINT  windows after theirs in which unused free units can be used
            once_quantity        BIGINT  free units granted once, on a service's first day
            once_days            BIGINT  days that those can be used
            allowance_minor      BIGINT  free amount per service and period, before the least amount
            pooled               BOOLEAN usage draws from the offer's share plan
            rounding_mode        VARCHAR of the amount to minor units: half_up, half_even, up, down
            minimum_at_zero      BOOLEAN the least amount is charged on nothing too
            minimum_minor        BIGINT? least amount per service, charge and period
            maximum_minor        BIGINT? greatest amount per service, charge and period
            billing              VARCHAR advance or arrears
            basis                VARCHAR proration basis
            billable             VARCHAR how services are counted that owe it: see terms.Charge
            billable_days        BIGINT  days from activation after which it is owed again; 0 = none
            cycle                VARCHAR windows of usage, periods of fees: see calendars.Cycle
            transition_from      VARCHAR? state left, for kind transition
            transition_to        VARCHAR? state entered, for kind transition
            transition_after_months BIGINT whole months in the state left, at least
            transition_after_days BIGINT days in the state left, at least
            """,
            key="charge_id",
        ),
        _table(
            "charge_measure",
            "What a combined charge measures: a row per measure in blocks, per bound of one in "
            "steps (SP-28).",
            """
            charge_id          VARCHAR combined charge
            measure_no         BIGINT  place among the charge's measures, from 1
            step_no            BIGINT  place among the measure's bounds, from 1
            measured_charge_id VARCHAR? usage charge that counts; null = services of the offer
            each_quantity      BIGINT  class units of a started block; 0 = steps
            bound_quantity     BIGINT? inclusive end of the step, class units; null = blocks
            """,
            key="charge_id measure_no step_no",
        ),
        _table(
            "price",
            "A dated, conditional price of a charge; lowest priority number wins.",
            """
            price_id   VARCHAR id
            charge_id  VARCHAR charge
            priority   INTEGER order of trial; 0 = a contract names it, it is never tried
            zone       VARCHAR? zone it is for; null = any
            window_no  INTEGER? time window it is for; null = any time
            state      VARCHAR? service state it is for (recurring); null = every core-active state
            valid_from DATE    local date, inclusive
            valid_to   DATE?   exclusive; null = open
            model      VARCHAR price model, see terms.Price
            edge       VARCHAR inclusive: a count that ends at a tier's bound is inside; exclusive
            package_rounding VARCHAR up: a started package counts; down: only whole ones
            counted    VARCHAR what tiers count over: period, day, session or record
            count_group VARCHAR prices of a charge and group count on from one another
            at_zero    BOOLEAN the first tier's fee is due for a count of zero
            connect_e12 DECIMAL(38,0) fee of every record or session that used something x 10^12
            connect_per VARCHAR record or session
            least_e12  DECIMAL(38,0)? least amount of one record, session or day x 10^12
            most_e12   DECIMAL(38,0)? greatest amount of one of them x 10^12
            rounding_mode VARCHAR? of the price's amount before it joins the charge; null = exact
            rounding_digits INTEGER? decimals it is rounded to
            surcharge_e12 DECIMAL(38,0) surcharges contained in each unit's rate x 10^12
            surcharge_factor_e12 DECIMAL(38,0) what rate and surcharges were multiplied by x 10^12
            """,
            key="price_id",
        ),
        _table(
            "price_tier",
            "Tiers of a price; bounds `lower < q <= upper`, in class units.",
            """
            price_id       VARCHAR price
            tier_no        INTEGER from 1
            lower_quantity BIGINT  lower bound, exclusive unless the price's edge is exclusive
            upper_quantity BIGINT? upper bound, inclusive likewise; null = no end
            block_quantity BIGINT  units count in started blocks of this size; 0 = one by one
            rate_e12       DECIMAL(38,0) price of a unit, a block or a package x 10^12
            flat_e12       DECIMAL(38,0) fee when the tier is entered (volume: reached) x 10^12
            """,
            key="price_id tier_no",
        ),
    )
}
"""The catalog compiled to tables by :mod:`engine.terms`."""

# ---------------------------------------------------------------- rating and charges

RATED_USAGE = _table(
    "rated_usage",
    "One record at one level of the seller chain: owner, price and rated quantity. The money is "
    "computed from summed integer quantities, so no record is ever rounded (RULEBOOK §0.2).",
    """
    file_key       BIGINT    landed file
    line_no        BIGINT    line
    part_no        INTEGER   1; more where a duration was split over time windows (RT-18)
    feed_id        VARCHAR   feed
    usage_month    VARCHAR   UTC month; the lake's partition
    usage_period   VARCHAR   month of the event in the payer's billing zone (RULEBOOK §0.4)
    event_start    TIMESTAMP UTC
    local_date     DATE      in the payer's billing zone
    level          VARCHAR   retail, wholesale, vendor
    account_id     VARCHAR   payer
    service_id     VARCHAR   service that used it
    offer_id       VARCHAR   offer at event time
    charge_id      VARCHAR   charge
    price_id       VARCHAR   price version
    usage_class    VARCHAR   class
    session_key    VARCHAR   session, or the record itself, or what the charge counts differences of
    quantity       BIGINT    as used
    rated_quantity BIGINT    what is counted: after record-level increments; or cost x 10^12, or 1
    pooled         BOOLEAN   draws from the offer's share plan
    flags          VARCHAR?  space-separated: late, timeout_release, counter_reset, ...
    """,
    key="file_key line_no level part_no",
    partition_by="usage_month",
)

SERVICE_ACTIVATION = _table(
    "service_activation",
    "When a service that waited for its first use became active (RULEBOOK §2). Once the period of "
    "the date is closed for the payer's entity, the date stays.",
    """
    usage_period VARCHAR month of active_date
    entity_id    VARCHAR our legal entity that bills the payer
    service_id   VARCHAR service
    level        VARCHAR level of the offer that it waited on
    added_date   DATE    local day since when it waited
    active_date  DATE    local day on which it became active
    """,
    key="usage_period service_id level added_date",
    partition_by="usage_period",
)

USAGE_AGGREGATE = _table(
    "usage_aggregate",
    "Rated usage summed per service, charge, price and window of the charge's cycle.",
    """
    usage_period   VARCHAR month of the window's last day, in whose close it settles
    window_start   DATE    first local day of the window
    window_end     DATE    first local day after it
    level          VARCHAR level
    account_id     VARCHAR payer
    service_id     VARCHAR service
    offer_id       VARCHAR offer
    charge_id      VARCHAR charge
    price_id       VARCHAR price version
    pooled         BOOLEAN draws from a pool
    records        BIGINT  records
    quantity       BIGINT  as used
    rated_quantity BIGINT  after increments up to the service period
    allowance_quantity BIGINT part of rated_quantity that the charge's own allowance covers
    """,
    key="usage_period window_start level account_id service_id charge_id price_id pooled",
    partition_by="usage_period",
)

POOL_SETTLEMENT = _table(
    "pool_settlement",
    "A pool in a window of its cycle, settled over the whole set of its records (RULEBOOK §3).",
    """
    usage_period     VARCHAR month of the window's last day, in whose close it settles
    window_start     DATE    first local day of the window
    window_end       DATE    first local day after it
    level            VARCHAR level
    pool_id          VARCHAR share plan and share-level account
    share_plan_id    VARCHAR plan
    account_id       VARCHAR share-level account
    charge_id        VARCHAR overage charge
    services         BIGINT  contributing services
    available        BIGINT  allotment with what was carried over, class units
    carried          BIGINT  part of it that earlier windows left, class units
    used             BIGINT  eligible usage, class units
    overage_quantity BIGINT  max(0, used - available)
    extra_pools      BIGINT  further pools that the overage was sold as
    currency         VARCHAR ISO 4217
    amount_minor     BIGINT  overage, rounded once
    """,
    key="usage_period window_start level pool_id charge_id",
    partition_by="usage_period",
)

POOL_PART = _table(
    "pool_part",
    "A service's part of a pool: contribution, usage, and share of the overage.",
    """
    usage_period VARCHAR month of the window's last day
    window_start DATE    first local day of the window
    level        VARCHAR level
    pool_id      VARCHAR pool
    charge_id    VARCHAR overage charge
    account_id   VARCHAR account of the service
    service_id   VARCHAR service
    contribution BIGINT  class units
    used         BIGINT  class units
    weight       BIGINT  weight by the attribution policy
    overage_quantity BIGINT overage apportioned by the same weights
    amount_minor BIGINT  largest-remainder share; parts add up to the pool
    """,
    key="usage_period window_start level pool_id charge_id service_id",
    partition_by="usage_period",
)

POOL_LOT = _table(
    "pool_lot",
    "Units that a pool with rollover held in a window, by the window that granted them: the oldest "
    "are drawn first, and what is left may be carried on (SP-20, SP-21).",
    """
    usage_period   VARCHAR month of the window's last day
    window_start   DATE    first local day of the window
    window_end     DATE    first local day after it
    level          VARCHAR level
    pool_id        VARCHAR pool
    bucket_id      VARCHAR bucket
    pool_account_id VARCHAR share-level account
    granted_on     DATE    first local day of the window that granted them
    quantity       BIGINT  class units at the window's start
    drawn          BIGINT  used in the window
    carried_on     BIGINT  left for the next window; the rest expires
    windows_left   BIGINT  windows after this one in which they can be used
    """,
    key="usage_period window_start level pool_id granted_on",
    partition_by="usage_period",
)

ALLOWANCE_LOT = _table(
    "allowance_lot",
    "A service's own free units in a window, where they outlive it, by what granted them (SP-22).",
    """
    usage_period VARCHAR month of the window's last day
    window_start DATE    first local day of the window
    window_end   DATE    first local day after it
    level        VARCHAR level
    account_id   VARCHAR payer
    service_id   VARCHAR service
    charge_id    VARCHAR charge
    kind         VARCHAR recurring (each window's), or once
    granted_on   DATE    first day of the window that granted them, or of the service
    expires_on   DATE?   first day on which units granted once can no longer be carried on
    quantity     BIGINT  class units at the window's start
    drawn        BIGINT  used in the window
    carried_on   BIGINT  left for the next window; the rest expires
    windows_left BIGINT  windows after this one in which recurring units can be used
    """,
    key="usage_period window_start level account_id service_id charge_id kind granted_on",
    partition_by="usage_period",
)

CHARGE_COMPONENT = _table(
    "charge_component",
    "What a desired charge is made of: a price, a state segment, a pool share.",
    """
    usage_period VARCHAR usage period
    level        VARCHAR level
    account_id   VARCHAR payer
    service_id   VARCHAR service
    charge_id    VARCHAR charge
    component_id VARCHAR stable key: price id, or segment start and price id, or pool id
    kind         VARCHAR usage, segment, transition, pool_share, combined, shortfall, ...
    detail       VARCHAR arithmetic in words and numbers
    records      BIGINT  usage records
    quantity     BIGINT  class units, or days
    amount_minor BIGINT  largest-remainder part of the charge
    """,
    key="usage_period level account_id service_id charge_id component_id",
    partition_by="usage_period",
)

DESIRED_CHARGE = _table(
    "desired_charge",
    "What the ledger should hold for a unit and usage period; rounded once.",
    """
    usage_period   VARCHAR usage period
    billing_period VARCHAR invoice that carries it when billed on time: of a carrier, by its months
    level          VARCHAR level
    entity_id      VARCHAR our legal entity
    account_id     VARCHAR payer
    service_id     VARCHAR service
    charge_id      VARCHAR charge
    product_id     VARCHAR product
    kind           VARCHAR usage, recurring, transition, overage, discount, shortfall, ...
    linear         BOOLEAN a correction is a delta, not a reversal (RULEBOOK §11)
    records        BIGINT  usage records behind it
    quantity       BIGINT  class units, or days
    currency       VARCHAR ISO 4217
    amount_minor   BIGINT  minor units
    price_ids      VARCHAR space-separated price versions
    window_start   DATE?   first local day of the windows that it is for
    window_end     DATE?   first local day after them
    """,
    key="usage_period level account_id service_id charge_id",
    partition_by="usage_period billing_period",
)

BOOKED_CHARGE = _table(
    "booked_charge",
    "What the ledger holds for a unit and usage period: the sum of its booked rows.",
    """
    usage_period   VARCHAR usage period
    level          VARCHAR level
    entity_id      VARCHAR our legal entity
    account_id     VARCHAR payer
    service_id     VARCHAR service
    charge_id      VARCHAR charge
    product_id     VARCHAR product
    kind           VARCHAR usage, recurring, transition, overage, discount, shortfall, ...
    gl_class       VARCHAR the product's GL class when it was booked
    tax_code       VARCHAR the product's tax code when it was booked
    currency       VARCHAR ISO 4217
    records        BIGINT  usage records
    quantity       BIGINT  class units, or days
    amount_minor   BIGINT  minor units
    entries        INTEGER rows that it is the sum of
    price_ids      VARCHAR price versions of the newest row
    """,
    key="usage_period level account_id service_id charge_id entity_id product_id kind gl_class "
    "tax_code currency",
)

BOOKING = _table(
    "booking",
    "A row to book: the difference between what is desired and what is booked.",
    """
    usage_period   VARCHAR usage period
    billing_period VARCHAR period of the invoice that will carry it
    accounting_period VARCHAR period it posts in
    level          VARCHAR level
    entity_id      VARCHAR our legal entity
    account_id     VARCHAR payer
    service_id     VARCHAR service
    charge_id      VARCHAR charge
    product_id     VARCHAR product
    kind           VARCHAR usage, recurring, transition, overage, discount, shortfall, ...
    gl_class       VARCHAR GL class
    tax_code       VARCHAR tax code
    currency       VARCHAR ISO 4217
    entry_no       INTEGER place in the unit's history, from 1
    records        BIGINT  usage records, signed
    quantity       BIGINT  class units, or days, signed
    amount_minor   BIGINT  minor units, signed
    reason         VARCHAR initial, adjustment, reversal, rebill
    price_ids      VARCHAR space-separated price versions
    """,
    key="usage_period level account_id service_id charge_id entity_id product_id kind gl_class "
    "tax_code currency entry_no",
)

CHARGE_FINDING = _table(
    "charge_finding",
    "What is wrong or missing in reference data that a period's charges depend on.",
    """
    usage_period VARCHAR usage period
    code         VARCHAR undeclared_transition, unknown_state, unknown_offer, ...
    service_id   VARCHAR? service concerned
    subject      VARCHAR charge, transition, offer or pool concerned
    message      VARCHAR what is wrong and what to do
    """,
    key="usage_period code service_id subject",
    partition_by="usage_period",
)

COMMITMENT_STATUS = _table(
    "commitment_status",
    "Where a contract's commitment stands at the end of a usage period: a row per window that the "
    "period lies in (RULEBOOK §4). Of a window that ends in the period the figures are final.",
    """
    usage_period  VARCHAR usage period
    contract_id   VARCHAR contract
    commitment_id VARCHAR commitment of its terms
    window_start  DATE    first day of the window under contract
    charge_id     VARCHAR charge that a shortfall is booked as
    level         VARCHAR retail, wholesale or vendor
    account_id    VARCHAR account
    service_id    VARCHAR service of a line-item contract, else ''
    product_id    VARCHAR product of the penalty
    kind          VARCHAR kind of commitment
    unit          VARCHAR currency, or the unit that is counted
    currency      VARCHAR currency of the penalty
    window_end    DATE    first day after the window's last day under contract
    closes        BOOLEAN the window ends in the period
    committed     RATE    what the window commits to
    measured      RATE    what counted so far
    missing       RATE    max(0, committed - measured)
    penalty_minor BIGINT  what is charged for the shortfall; 0 while the window is open
    projected     RATE    measured at the window's end, if it goes on as so far
    projected_missing RATE what will be missing then
    projected_minor BIGINT what will be charged for it
    step_value    RATE    ramp step in force, per commitment period
    next_step_on  DATE?   day on which the ramp's next step begins
    next_step_value RATE? its value
    excluded_lines BIGINT charges that did not count
    excluded_amount RATE  their sum
    detail        VARCHAR arithmetic in words and numbers
    """,
    key="usage_period contract_id commitment_id window_start",
    partition_by="usage_period",
)

# ---------------------------------------------------------------- vendors

VENDOR_INVOICE_LINE = _table(
    "vendor_invoice_line",
    "A line of a carrier's invoice file.",
    """
    file_key      BIGINT    landed file
    line_no       BIGINT    line
    feed_id       VARCHAR   feed
    vendor_id     VARCHAR   vendor account
    invoice_no    VARCHAR   invoice number
    billing_period VARCHAR  period the invoice is for, YYYY-MM
    uid_type      VARCHAR?  identifier type; null for account-level lines
    uid_value     VARCHAR?  identifier
    plan_id       VARCHAR?  rate plan as the vendor names it
    plan_version  VARCHAR?  version of the rate plan, where the vendor tells it
    charge_code   VARCHAR   vendor's charge code
    service_start DATE?     line's own service dates
    service_end   DATE?     exclusive
    quantity      BIGINT?   class units, or days, or a count
    unit_price    RATE?     price per priced unit as printed
    currency      VARCHAR   ISO 4217
    amount        RATE      as printed, before rounding, tax included where tax_amount is told
    tax_amount    RATE?     tax contained in amount
    foreign_currency VARCHAR? currency the vendor converted from
    foreign_amount RATE?    amount in that currency
    fx_rate       RATE?     amount = foreign_amount x fx_rate, as the vendor converted
    document_kind VARCHAR?  invoice, credit_note or correction; null = invoice
    refers_to     VARCHAR?  invoice that a credit note credits or a correction replaces
    our_reference VARCHAR?  claim of ours that a credit answers, as the vendor repeats it
    """,
    key="file_key line_no",
    partition_by="file_key",
)

CARRIER_SIM = _table(
    "carrier_sim",
    "A SIM as its carrier's platform has it on a day.",
    """
    file_key      BIGINT    landed file
    line_no       BIGINT    line
    feed_id       VARCHAR   feed
    vendor_id     VARCHAR   vendor account
    as_of         DATE      day at whose end the SIM was so
    uid_type      VARCHAR   identifier type
    uid_value     VARCHAR   identifier
    state         VARCHAR   state as the carrier names it
    core_state    VARCHAR   what it means: prospect, active, suspended or cancelled
    plan_id       VARCHAR?  rate plan as the carrier names it
    last_seen     DATE?     day of its last traffic as the carrier sees it
    """,
    key="file_key line_no",
    partition_by="file_key",
)

RATE_CARD_LINE = _table(
    "rate_card_line",
    "A line of a carrier's rate card, as delivered: what it asks for which usage where.",
    """
    file_key      BIGINT    landed file
    line_no       BIGINT    line
    feed_id       VARCHAR   feed
    destination_type VARCHAR prefix, network, country or zone
    destination   VARCHAR   digits that numbers begin with, MCC-MNC, ISO country, zone
    destination_name VARCHAR? for people
    usage_class   VARCHAR   class that is priced
    unit          VARCHAR   unit that the rate is for: minute, MB, count, ...
    rate          RATE      price of one unit, or a factor where the currency is absent
    currency      VARCHAR?  ISO 4217
    connection_fee RATE?    price of each event besides
    first_increment BIGINT? class units that an event counts at least
    next_increment BIGINT?  class units in whose multiples it counts then
    valid_from    DATE?     first day
    valid_to      DATE?     exclusive
    """,
    key="file_key line_no",
    partition_by="file_key",
)

RECONCILIATION_LINE = _table(
    "reconciliation_line",
    "Expected against invoiced for one vendor, SIM, charge code, usage period and currency.",
    """
    line_key       VARCHAR  stable id: md5 of vendor, SIM, charge code, usage period, currency
    accounting_period VARCHAR period reconciled
    usage_period   VARCHAR  period of the service, from the line's own dates
    vendor_id      VARCHAR  vendor account
    invoice_no     VARCHAR? invoice, "A + B" for two; null when nothing was billed
    uid_type       VARCHAR? identifier type; null for account-level lines
    uid_value      VARCHAR? SIM; null for account-level lines
    service_id     VARCHAR? our service, if known
    charge_code    VARCHAR  vendor's charge code
    kind           VARCHAR? usage, recurring, transition, overage; null if no term has the code
    billed_plan    VARCHAR? rate plan and version on the invoice, "A + B" for two
    own_plan       VARCHAR? rate plan and version that we agreed, by the vendor's plans
    plan_match     VARCHAR? same, other_version or other_plan; null where a side names none
    currency       VARCHAR  ISO 4217
    invoice_lines  BIGINT   lines of the invoice behind it
    expected_quantity BIGINT? ours: class units; days for kind recurring
    invoiced_quantity BIGINT? theirs, in the same unit
    expected_minor BIGINT   our expected cost
    invoiced_minor BIGINT   what they billed
    variance_minor BIGINT   invoiced - expected
    compared_minor BIGINT   part of the variance left to compare once refused lines are set apart
    status         VARCHAR  matched, tolerated, disputed, or underbilled (accrued, not claimed)
    """,
    key="accounting_period line_key",
    partition_by="accounting_period",
)

RECONCILIATION_CAUSE = _table(
    "reconciliation_cause",
    "The variance of a reconciliation line by cause, in the order of RULEBOOK §10; sums exactly.",
    """
    line_key     VARCHAR  reconciliation line
    accounting_period VARCHAR period reconciled
    usage_period VARCHAR  period of the service
    vendor_id    VARCHAR  vendor account
    invoice_no   VARCHAR? invoice of the lines that the cause is about
    uid_value    VARCHAR? SIM
    charge_code  VARCHAR  charge code
    cause        VARCHAR  duplicate, wrong_period, ... unexplained (RULEBOOK §10)
    currency     VARCHAR  ISO 4217
    amount_minor BIGINT   part of the variance, never zero
    evidence     VARCHAR  invoice lines, quantities, prices, dates
    """,
    key="accounting_period line_key cause",
    partition_by="accounting_period",
)

RECONCILIATION_TOTAL = _table(
    "reconciliation_total",
    "Totals of an invoice, and the limit of what its tolerated lines may add up to (VR-07).",
    """
    accounting_period VARCHAR period reconciled
    vendor_id      VARCHAR  vendor account
    invoice_no     VARCHAR? invoice; null for what was not billed
    currency       VARCHAR  ISO 4217
    invoice_lines  BIGINT   lines of the invoice
    expected_minor BIGINT   our expected cost
    invoiced_minor BIGINT   what they billed, rounded once over the invoice
    variance_minor BIGINT   invoiced - expected
    unexplained_minor BIGINT part of the variance without a cause
    tolerated_lines BIGINT  lines that passed with a difference
    tolerated_minor BIGINT  sum of those differences and of the invoice's rounding
    limit_minor    BIGINT   greatest sum that passes
    flag           VARCHAR? systematic_rounding (limit exceeded), accrued (no invoice yet)
    """,
    key="accounting_period vendor_id invoice_no currency",
    partition_by="accounting_period",
)

DISPUTE_ITEM = _table(
    "dispute_item",
    "A claim against a vendor: one per reconciliation line and set of invoice lines.",
    """
    dispute_key    VARCHAR  stable id: md5 of the line and what is claimed
    line_key       VARCHAR  reconciliation line
    accounting_period VARCHAR period reconciled
    usage_period   VARCHAR  period of the service
    vendor_id      VARCHAR  vendor account
    invoice_no     VARCHAR? invoice
    first_line_no  BIGINT?  first invoice line it is about
    uid_value      VARCHAR? SIM
    charge_code    VARCHAR  charge code
    currency       VARCHAR  ISO 4217
    billed_minor   BIGINT   what was billed
    expected_minor BIGINT   what our terms give
    difference_minor BIGINT billed - expected
    cause          VARCHAR  greatest cause (RULEBOOK §10), or systematic_rounding
    evidence       VARCHAR  every cause with its reason
    """,
    key="accounting_period dispute_key",
    partition_by="accounting_period",
)

TABLES = {
    t.name: t
    for t in (
        USAGE_RECORD,
        REJECTED_RECORD,
        SUSPENDED_RECORD,
        DUPLICATE_RECORD,
        USAGE_OUTCOME,
        USAGE_PART,
        NEARBY_RECORD,
        FEED_POLICY,
        FILE_VERSION,
        LATE_ARRIVAL,
        FEED_WATERMARK,
        RATED_USAGE,
        SERVICE_ACTIVATION,
        USAGE_AGGREGATE,
        POOL_SETTLEMENT,
        POOL_PART,
        POOL_LOT,
        ALLOWANCE_LOT,
        CHARGE_COMPONENT,
        DESIRED_CHARGE,
        BOOKED_CHARGE,
        BOOKING,
        CHARGE_FINDING,
        COMMITMENT_STATUS,
        VENDOR_INVOICE_LINE,
        CARRIER_SIM,
        RATE_CARD_LINE,
        RECONCILIATION_LINE,
        RECONCILIATION_CAUSE,
        RECONCILIATION_TOTAL,
        DISPUTE_ITEM,
        *REFERENCE.values(),
        *CATALOG.values(),
    )
}
