"""From stored episodes to the agent's batches."""

import numpy as np
import torch

import her
from training.batches import to_batches


def test_batches_are_dealt_so_that_each_has_its_share_of_hindsight_and_rows_stay_whole():
    count, size = 3, 10
    row = np.arange(count * size, dtype=np.float32)
    columns = {name: np.tile(row[:, None], 2) for name in ("observation", "action", "next_observation")}
    goals = {name: np.zeros((len(row), 3), np.float32) for name in ("achieved_goal", "next_achieved_goal")}
    wanted = np.tile(row[:, None], 3)
    scalars = dict.fromkeys(("reward", "terminated", "discount"), row)
    batch = her.GoalBatch(**columns, **goals, **scalars, desired_goal=wanted, relabelled=row < 24)
    dealt = to_batches(batch, count, 1.0, torch.device("cpu"))
    assert dealt.obs.shape == (count, size, 5)
    assert [(each < 24).sum().item() for each in dealt.reward] == [8, 8, 8]
    assert sorted(dealt.reward.flatten().tolist()) == row.tolist()
    for array in (dealt.obs, dealt.action, dealt.next_obs):
        assert torch.equal(array, dealt.reward.unsqueeze(-1).expand_as(array))
