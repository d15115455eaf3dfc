"""Sums in people's and models' notation, by hand: what holds, what does not, and what is not judged."""

from __future__ import annotations

import pytest

from tutelage.refine.sums import checked_sums

HOLD = [
    "1. Anna: 3*2=6.",
    "<<1,200/4=300>>300 each",
    "2+3*4 = 14",
    "10/3 = 3.33 dollars",
    "10/3 = 3.3 dollars",
    "50/3 = 16.6",
    "20% * 50 = 10",
    "x = 4+1 and y=3+2=5",
    "A says 8, 6+2=8: right.",
    "18 - 2 = 4*4 = 16",
    "(3+2)*4 = 20 and 2(3) = 6 and [1+1]*2 = 4",
    "-3 + 5 = 2",
    "48+21+-3=66",
    "5 − 2 = 3, 5 – 2 = 3, 3·2 = 6, 6 ÷ 3 = 2 and 3 × 2 = 6",
    "3x4=12, 3 x 4 = 12",
    "2^3 + 1 = 9 and 3**2 = 9",
    "¾ * 4 = 3 and 1½ * 2 = 3",
    "8 x 1 1/2 = 12 rolls",
    "12 * 1 and 1/4 = 15",
    "3 / 4 * 2 = 1 1/2 feet",
    "4 / 3 = 1 and 1/3, 100 / 6 = 16 and (2/3)",
    "80 000 x 20/100 = 16 000",
    "24*.1 = 2.4",
    "25 / 1/3 = 75, for a quarter of that is ...",
    "27/3/3 = 3",
    "1.2 x 100% = 120 inches",
    "100% - 25% = 75% of the price",
    "$2.50 - $2.24 = 26 cents",
    "5 * 3 = $15,000, in thousands",
    "13 / 6 = 2 with a remainder of 1",
    "200/3 is about 67: 200/3 = 67",
    "3 plus 2 equals 5, 3 times 2 = 6, 1/2 of 10 = 5",
    "40/3 = <<40/3=13.333333333333334>>13 books",
    "$8-$270 = <<8-270=-262>>262 less",
    "8*45 = 360 divided by 5 is 72",
    "3*2 = 6 - so he has 6",
    "19.99 * 3 = 60 (rounded)",
]
NOT_JUDGED = [
    "He reads the problem.",
    "5/0 = 7",
    "20+10% = 22",
    "66 fish * 1/3 = 22 fish",
    "x + 5 - 3 = 10 and 2x = 8",
    "(x + 5) * 3 = 45",
    "8/3 = 24/Y",
    "22 - 16 = 16 + x - 16",
    "3*30 = 30 + M trees",
    "33 / 2 = 2x / 2",
    "6:00+48 = 6:48",
    "0900-0130 = 0730",
    "45 * 0,2 = 9",
    "14, 400 / 80 = 180",
    "sqrt(16)+1 = 5",
    "x3+2 = 7",
    "twice 5 + 2 = 12",
    "11 < 30 / 11 = 11",
    "12 1 1/2 = 18",
    "Weeks 3-4 = 6",
    "3+2 >= 4 and 3+2 => 6",
    "x=<<7=7>>7",
    "100+(100*(10/100) = 110",
]
FALSE = [  # with what is put in the place
    ("1. Anna: 3+2=6.\n", "1. Anna: 3+2=5."),
    ("It costs $3 x 4 = $12 and 12-2=11.", "It costs $3 x 4 = $12 and 12-2=10."),
    ("2+3*4 = 20", "2+3*4 = 14"),
    ("10 x 1,248 = 12,490", "10 x 1,248 = 12480"),
    ("18 - 2 = 4*4 = 17", "18 - 2 = 4*4 = 16"),
    ("2*(3+1) = <<2*(3+1)=7>>7 apples", "2*(3+1) = <<2*(3+1)=8>>8 apples"),
    ("3 + 2 = <<3*2=6>>6", "3 + 2 = <<3+2=5>>5"),
    ("It is $1,200 – $200 x 3 = $<<1200*3=3600>>3600.", "It is $1,200 – $200 x 3 = $<<1200-200*3=600>>600."),
    ("3+2=6, 2*2 = <<2*2=5>>5 and 9-1=7", "3+2=5, 2*2 = <<2*2=4>>4 and 9-1=8"),
    ("¾ * 12 = 6", "¾ * 12 = 9"),
    ("He pays .5*10 = $6.", "He pays .5*10 = $5."),
    ("60/18 = 3 hours", "60/18 = 3.333333333 hours"),
    ("10/4 = 2.6", "10/4 = 2.5"),
    ("6/3 = 3 are left", "6/3 = 2 are left"),
    ("The rest is 8 - 3 = 6 cm", "The rest is 8 - 3 = 5 cm"),
    ("100% - 40% = 40%", "100% - 40% = 60%"),
    ("3/4 = 25%", "3/4 = 75%"),
    ("20% * 40% = 80%", "20% * 40% = 8%"),
    ("2 + 2 = 2 * 3", None),
    ("3 times 4 equals 13", "3 times 4 equals 12"),
]


@pytest.mark.parametrize("step", HOLD)
def test_sums_hold_as_people_write_them(step: str) -> None:
    found = checked_sums(step)
    assert (found.label, found.rewrite, found.error) == (1, None, None)


@pytest.mark.parametrize("step", NOT_JUDGED)
def test_what_is_no_sum_of_numbers_is_not_judged(step: str) -> None:
    assert checked_sums(step).label == 0


@pytest.mark.parametrize(("step", "rewrite"), FALSE)
def test_false_sums_are_found_and_corrected(step: str, rewrite: str | None) -> None:
    found = checked_sums(step)
    assert (found.text, found.label, found.rewrite, found.error) == (step, -1, rewrite, "calculation")
    assert rewrite is None or checked_sums(rewrite).label == 1


def test_an_explanation_says_what_is_right() -> None:
    assert checked_sums("He pays  $3 x  25 = $50.").explanation == "$3 x 25 is 75, not $50"
    assert checked_sums("50% + 40% + 80% = 100%").explanation == "50% + 40% + 80% is 170%, not 100%"
