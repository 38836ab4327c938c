"""Takes one gradient step in slow motion, with the numbers of each equation. docs/internals.md explains what it prints.

python docs/examples/one_update.py runs/reach-sparse-reach-0
"""

import torch

from sac import losses
from sac.update import BETA1, BETA2, EPS
from training.analysis.open_run import open_run, run_example


@torch.no_grad()
def main(path: str) -> None:
    run = open_run(path)
    agent, config = run.agent, run.config.sac
    size = run.config.batch_size
    rows, goals, relabelled = run.sample(size)
    batch = run.to_batch(rows, goals, relabelled)
    print(f"{path}: {agent.updates:,} updates so far; {relabelled.sum()} of {size} rows relabelled")

    # The agent draws the same noise in its own update below, and so comes to the same numbers.
    state = agent.generator.get_state()
    noise_of_critics, noise_of_actor = torch.randn((2, *batch.action.shape), generator=agent.generator)
    agent.generator.set_state(state)

    seen, next_seen = agent.normalizer(batch.obs), agent.normalizer(batch.next_obs)
    next_action, next_log_prob = losses.squash(*agent.actor(next_seen), noise_of_critics)
    next_q = agent.critic_target(next_seen, next_action)
    alpha = agent.alpha if config.backup_entropy else 0.0
    terms = batch.reward, batch.terminated, next_q, next_log_prob, alpha, batch.discount
    target_q = losses.td_target(*terms, (batch.low, batch.high) if agent.clips_target else None)
    clipped = (losses.td_target(*terms) != target_q).sum()
    q = agent.critic(seen, batch.action)
    critic_loss = losses.critic_loss(q, target_q)
    print("\nthe critics' target, row by row")
    print(" hindsight   reward   discount   q1(s', a')   q2(s', a')   target        q1        q2")
    for row in (0, 1, 2, -3, -2, -1):
        print(
            f"{'yes' if relabelled[row] else 'no':>10} {batch.reward[row]:8.3f} {batch.discount[row]:10.4f} "
            f"{next_q[0, row]:12.3f} {next_q[1, row]:12.3f} {target_q[row]:8.3f} {q[0, row]:9.3f} {q[1, row]:9.3f}"
        )
    if agent.clips_target:
        low, high = batch.low.min(), batch.high.max()
        print(
            f"returns lie in [{low:.2f}, {high:.2f}]; {clipped} of {size} targets are clipped, each to its own state's"
        )

    before, lr = agent.state_dict(), agent.config.lr
    metrics = agent.update(batch)
    after = agent.state_dict()
    # The actor climbs the critics as they are after their step.
    agent.load_state_dict(before)
    agent.load_networks(after, only=["critic"])
    action, log_prob = losses.squash(*agent.actor(seen), noise_of_actor)
    q_of_policy = agent.critic(seen, action)
    actor_loss = losses.actor_loss(agent.alpha, log_prob, q_of_policy)
    alpha_loss = losses.temperature_loss(agent.log_alpha, log_prob, agent.target_entropy)
    entropy, target = -log_prob.mean(), agent.target_entropy
    print(f"\ncritic loss {critic_loss:.4f} = mean (q1 - target)² + mean (q2 - target)²")
    print(
        f"actor loss  {actor_loss:.4f} = alpha {agent.alpha:.4f} · mean log π {log_prob.mean():.3f} "
        f"- mean min(q1, q2) {q_of_policy.amin(0).mean():.3f}"
    )
    print(
        f"alpha loss  {alpha_loss:.4f} = alpha {agent.alpha:.4f} · (entropy {entropy:.3f} - target {target:.3f}), "
        f"so alpha {'falls' if entropy > target else 'rises'}"
    )

    agent.load_state_dict(after)
    names = "train/critic_loss", "train/actor_loss", "train/ent_coef_loss"
    print(f"as the agent's own update has them: {', '.join(f'{metrics[name]:.4f}' for name in names)}")

    moments = before["alpha_moments"]
    step = int(moments["step"]["log_alpha"]) + 1
    m_before, v_before = (float(moments[name]["log_alpha"]) for name in ("exp_avg", "exp_avg_sq"))
    g = float(alpha_loss)
    m = BETA1 * m_before + (1 - BETA1) * g
    v = BETA2 * v_before + (1 - BETA2) * g**2
    m_hat, v_hat = m / (1 - BETA1**step), v / (1 - BETA2**step)
    log_alpha = float(before["log_alpha"]) - lr * m_hat / (v_hat**0.5 + EPS)
    print(f"\nAdam's step {step} on log α; the gradient g of the alpha loss is here that loss itself, {g:.6f}")
    print(f"m = {BETA1} · {m_before:.6f} + {1 - BETA1:.1f} g  = {m:.6f}   m̂ = m / (1 - {BETA1}^{step}) = {m_hat:.6f}")
    print(f"v = {BETA2} · {v_before:.6f} + {1 - BETA2:.3f} g² = {v:.6f}   v̂ = v / (1 - {BETA2}^{step}) = {v_hat:.6f}")
    print(f"log α = {before['log_alpha']:.6f} - {lr:.2e} m̂ / √v̂ = {log_alpha:.6f}, ", end="")
    print(f"and the agent's is {after['log_alpha']:.6f}")

    print("\n                 weights moved by      of   the last layer's first bias")
    for name in ("critic", "critic_target", "actor", "actor_average"):
        moved = sum(((after[name][key] - before[name][key]) ** 2).sum() for key in after[name]) ** 0.5
        whole = sum((before[name][key] ** 2).sum() for key in after[name]) ** 0.5
        bias = list(after[name])[-1]
        first, then = before[name][bias].flat[0], after[name][bias].flat[0]
        print(f"{name:<14} {moved:18.2e} {whole:7.1f}   {first:.7f} → {then:.7f}")
    average_share = agent.average_share(agent.updates - 1)
    print(f"the shares of new weights: {config.tau:g} of the critic's, {average_share:g} of the actor's")


if __name__ == "__main__":
    run_example(main)
