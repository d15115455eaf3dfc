"""How far to trust feedback: agreement, reliability, strengths and habits, from plain arrays. numpy only."""

from __future__ import annotations

from tutelage.feedback.statistics.agreement import (
    Contrast,
    cohen_kappa,
    contrast,
    fleiss_kappa,
    gwet_ac,
    krippendorff_alpha,
    percent_agreement,
)
from tutelage.feedback.statistics.attention import Run, speed, straight_lining
from tutelage.feedback.statistics.bradley_terry import Overturned, Strengths, bradley_terry, overturned
from tutelage.feedback.statistics.crowd_pairs import CrowdPairs, crowd_pairs
from tutelage.feedback.statistics.dawid_skene import DawidSkene, dawid_skene
from tutelage.feedback.statistics.estimate import ENOUGH, Estimate, Resampling
from tutelage.feedback.statistics.gold import GoldAccuracy, gold_accuracy
from tutelage.feedback.statistics.habit_pairs import HabitPairs, habit_pairs
from tutelage.feedback.statistics.habits import PositionBias, consistency, length_bias, position_bias
from tutelage.feedback.statistics.judging import JudgeAgreement, judge_agreement, labels_per_person
from tutelage.feedback.statistics.transitivity import Cycles, three_cycles
from tutelage.feedback.statistics.votes import Votes
