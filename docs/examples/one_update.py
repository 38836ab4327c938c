"""One gradient step in slow motion, with the numbers of each equation on a batch; docs/internals.md explains it.

python docs/examples/one_update.py runs/reach-sparse-reach-0
"""

import sys

import torch

from sac import losses
from training.opened import open_run


def main(path: str) -> None:
    torch.manual_seed(0)
    run = open_run(path)
    agent, config = run.agent, run.config.sac
    drawn = run.sample(config.batch_size)
    batch = run.to_batch(drawn)
    print(f"{path}: {agent.updates:,} updates so far; {drawn.relabelled.sum()} of {config.batch_size} rows relabelled")

    with torch.no_grad():
        next_action, next_log_prob = losses.squash(*agent.actor(batch.next_obs), torch.randn_like(batch.action))
        next_q = agent.critic_target(batch.next_obs, next_action)
        alpha = agent.alpha if config.backup_entropy else 0.0
        target_q = losses.td_target(
            batch.reward, batch.terminated, next_q, next_log_prob, alpha, batch.discount, agent.target_bounds
        )
    q = agent.critic(batch.obs, batch.action)
    print("\nthe critics' target, row by row")
    print(" hindsight   reward   discount   q1(s', a')   q2(s', a')   target        q1        q2")
    for row in (0, 1, 2, -3, -2, -1):
        print(
            f"{'yes' if drawn.relabelled[row] else 'no':>10} {batch.reward[row]:8.3f} {batch.discount[row]:10.4f} "
            f"{next_q[0, row]:12.3f} {next_q[1, row]:12.3f} {target_q[row]:8.3f} {q[0, row]:9.3f} {q[1, row]:9.3f}"
        )
    critic_loss = losses.critic_loss(q, target_q)
    print(f"\ncritic loss {critic_loss:.4f} = mean (q1 - target)² + mean (q2 - target)²")

    mean, log_std = agent.actor(batch.obs)
    action, log_prob = losses.squash(mean, log_std, torch.randn_like(batch.action))
    q_of_policy = agent.critic(batch.obs, action)
    actor_loss = losses.actor_loss(agent.alpha, log_prob, q_of_policy)
    print(
        f"actor loss  {actor_loss:.4f} = alpha {agent.alpha:.4f} · mean log π {log_prob.mean():.3f} "
        f"- mean min(q1, q2) {q_of_policy.amin(0).mean():.3f}"
    )
    entropy = -log_prob.mean()
    loss = losses.temperature_loss(agent.log_alpha, log_prob, agent.target_entropy)
    print(
        f"alpha loss  {loss:.4f} = alpha · (entropy {entropy:.3f} - target {agent.target_entropy:.3f}), "
        f"so alpha {'falls' if entropy > agent.target_entropy else 'rises'}"
    )

    before = agent.state_dict()
    agent.update(batch)
    after = agent.state_dict()
    print(
        f"\nAdam steps with a learning rate of {agent.learning_rate(agent.updates - 1):.2e}; how far the weights moved:"
    )
    for name in ("critic", "actor", "critic_target", "actor_average"):
        moved = sum(float(((after[name][key] - before[name][key]) ** 2).sum()) for key in after[name]) ** 0.5
        whole = sum(float((before[name][key] ** 2).sum()) for key in after[name]) ** 0.5
        print(f"{name:<14} {moved:.2e} of {whole:.1f}")
    print(f"alpha          {torch.tensor(before['log_alpha']).exp():.6f} → {agent.alpha:.6f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
