"""Every sentence that a widget says. What stands in braces is a figure or a name, ready to show.

Kept together, without any rule of when which is said, so that they can be put into another
language.
"""

# The head.
HEADING = "This period"
LEFT = "{count} left"
ENDED = "ended"
DAYS = ("1 day", "{count} days")
HOURS = ("1 hour", "{count} hours")
MINUTES = ("1 minute", "{count} minutes")
SO_FAR = "so far"
BY = "by {day}"
BY_THE_ENDS = "by the end of each period"
ABOUT = "about"
BETWEEN = "between {low} and {high}"
TOO_EARLY = "Too early to estimate: the period began {age} ago."
NOTHING_MORE = "Nothing more is expected by {day}."
IS_OVER = "The period is over."
NO_PRICES = "Nothing here has a price yet: this is the usage alone."
AND, OTHERS = "{first} and {last}", "{count} more"
COVERS = "For {names} only: your bill may hold more."
UNPRICED = "Without a price, and not in this amount: {names}."

# The chart.
DAILY = "Cost by day"
WEEKLY = "Cost by week"
BY_MANY = "Cost in steps of {count} days"
USE_DAILY = "{name} by day"
USE_WEEKLY = "{name} by week"
USE_BY_MANY = "{name} in steps of {count} days"
TODAY = "today {value}"
THIS_WEEK = "this week {value}"
THIS_STEP = "now {value}"
A_DAY = "≈ {value} a day"
EACH_WEEK = "≈ {value} a week"
EACH_STEP = "≈ {value} each"
ON_DAY = "{day}: {value}"
EXPECTED = "{day}: ≈ {value} expected"
AHEAD = "{day}: still to come"
BESIDES = "Not in the bars: {list}."
FELL = "A bar below the line: the total fell that day."
DUE_ANYWAY = "{amount} due whatever is used"
NOT_BY_DAY = "{name} ({amount})"
OTHER_PERIOD = "{name} ({amount} for {period})"
AS_TABLE = "By day, as a table"
AS_TABLE_OF_STEPS = "As a table"
TABLE_IN = "{title} ({currency})"
COLUMN_DAY, COLUMN_COST, COLUMN_SO_FAR, COLUMN_USED = "Day", "Cost", "So far", "Used"
ROW_ANYWAY = "Due whatever is used"

# What the number means.
MEANING = "What this number is"
MEANS_SO_FAR = (
    "So far: all usage that is counted, at the prices in force at the period’s end. Taxes,"
    " discounts and credits come on your invoice and are not in it."
)
MEANS_WEEKS = "The estimate expects the rest of the period to be like your past weeks."
MEANS_UNUSED = "A metric that was not used yet in this period has no part in it."
MEANS_PACE = "The estimate expects the rest of the period to go on at the pace so far."
MEANS_BAND = "In brackets: what a quieter and a busier rest of the period would come to."

# A metric.
INCLUDED = "included"
NO_PRICE = "no price"
EACH = "Each {unit} costs {rate}."
OF_INCLUDED = "{used} of {most} included {units} used"
OF_BOUGHT = "{used} of {most} {units} for {amount} used"
THEN_EACH = "; above that each costs {rate}."
THEN_ALL = "; above that all of them cost {rate} each."
THEN_AT_ONCE = "; above that {amount} is due at once."
THEN_BOTH = "; above that {amount} is due at once, and each costs {rate}."
THEN_PACKAGE = "; then {size} cost {rate}."
ALL_INCLUDED = "All of it is included."
PRODUCT = "{count} × {rate}"
ABOVE_INCLUDED = "{count} × {rate}, above the {most} included"
ABOVE = "{count} × {rate}, above {bound}"
ABOVE_FREE = "{count} above {bound} at no extra cost"
ALL_AT = "All {count} × {rate}"
AT_ONCE = "{amount} for any number up to the next price"
ON_TOP = ", on top of {amount}"
NEXT = "the next {unit} costs {rate}"
ONE_MORE = "one more {unit} costs {rate}"
NEXT_FREE = "the next {unit} costs nothing more"
ONE_MORE_FREE = "one more {unit} costs nothing more"
NEXT_LOWERS = "one more {unit} lowers the total by {amount}"
PACKAGES = ("1 package of {size} × {rate}", "{count} packages of {size} × {rate}")
FULL_PACKAGES = ("1 full package of {size} × {rate}", "{count} full packages of {size} × {rate}")
PAID_FOR = (
    "{count} more {units} is already paid for",
    "{count} more {units} are already paid for",
)
OPENS = "the next {unit} begins another for {rate}"
FULL_AT = "the next is full at {bound}"
A_PACKAGE = "{size} {units} cost {rate}."
FEE = "A fixed fee, whatever is used."
MINIMUM = "The minimum of {bound} is due; usage alone comes to {amount}."
MAXIMUM = "Capped at {bound}: using more costs nothing more."
PASSED = "You passed {bound} on {day}"
PASSED_INCLUDED = "You passed the {bound} included on {day}"
PASSED_EACH = ": each {unit} above costs {rate}."
PASSED_ALL = ": all of them now cost {rate} each."
WILL_PASS = "At this pace you pass {bound} by {day}."
WILL_PASS_INCLUDED = "At this pace you pass the {bound} included by {day}."
STAYS_INCLUDED = "At this pace all of it stays included."
PRICE_CHANGED = "The price changed on {day}; all of this period is at the new one."
PRICE_CHANGES = "The price changes on {day}; all of this period is at the new one."
ADDED = "Includes an adjustment of +{count} {units}."
TAKEN_OFF = "Includes an adjustment of {count} {units} (credit)."
BELOW_ZERO = "Adjustments of {count} {units} are more than was used: nothing of it is billed."
CARRIED = "Nothing was reported in this period: this is the last value before."
INCOMPLETE = "Still being counted: the number may grow."
THIS_PERIODS = "Billed for {period}."
A_UNIT, UNITS = "unit", "units"

# Its bar and its prices.
BAR = "{name}: where each price begins"
MARK_INCLUDED = "{bound} included"
MARK_EACH = "above {bound}: {rate} each"
MARK_ALL = "above {bound}: all at {rate} each"
MARK_FREE = "above {bound}: no extra cost"
MARK_ONLY_FLAT = "above {bound}: {amount} at once"
MARK_FLAT = "{mark}, {amount} at once"
MARK_PACKAGE = "{used} of this package’s {size}"
PRICES = "Prices"
PRICES_OF = "Prices of {name}"
COLUMN_UNITS, COLUMN_EACH, COLUMN_USED_THERE, COLUMN_COMES_TO = "Units", "Each", "Used", "Comes to"
UP_TO, FROM_TO, OVER = "up to {upper}", "{lower} – {upper}", "above {lower}"
TIER_FLAT = "{each} + {amount}"
TIER_ONLY_FLAT = "{amount} at once"
HERE = "you are here"
TO_MINIMUM, TO_MAXIMUM = "Up to the minimum", "Down to the maximum"

# The rest, and what is still to be said.
REST = ("1 more metric", "{count} more metrics")
REST_COST = "{metrics}, {amount}"
EMPTY = "No usage in this period yet."
EMPTY_THEN = "What you use appears here within seconds, with what it costs."
LATEST = "You last used something in the period of {period}."
COUNTING = ("1 event is still being counted.", "{count} events are still being counted.")
COUNTING_AT_LEAST = "At least {count} events are still being counted."
ASIDE = (
    "1 event came too late for this period and is set aside.",
    "{count} events came too late for this period and are set aside.",
)
ZONE = "Days and periods are in UTC."

# Recent activity.
ON, AT = "{day}, {time} UTC", "{time} UTC"
NO_ACTIVITY = "Nothing was used lately."
STATES = {
    "unfolded": "being counted",
    "set_aside": "set aside",
    "voided": "taken out",
    "dead_letter": "not counted yet",
}
