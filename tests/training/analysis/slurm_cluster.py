"""A SLURM cluster of one node, this machine, from Debian's packages: apt-get install slurm-wlm munge."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CryptoType=crypto/munge
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=1,sched_interval=1,requeue_delay=1
KillWait=20
MinJobAge=300
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")


def missing() -> str:
    """Says why no cluster can be started here, or nothing."""
    if os.geteuid() != 0:
        return "a SLURM of one's own takes root"
    path = f"{os.environ['PATH']}:/usr/sbin"
    absent = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    return f"there is no {', '.join(absent)}: apt-get install slurm-wlm munge" if absent else ""


@contextmanager
def cluster(directory: Path) -> Iterator[dict[str, str]]:
    """Starts a cluster whose files are in `directory`. Yields the environment in which SLURM's commands find it."""
    for name in ("state", "spool"):
        (directory / name).mkdir()
    key = directory / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    ports = {name: free_port() for name in ("controller", "node")}
    configuration = directory / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=socket.gethostname(), directory=directory, **ports))
    environment = os.environ | {"SLURM_CONF": str(configuration), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    files = {
        name: f"--{name}={directory / f'munge.{name}'}" for name in ("socket", "pid-file", "log-file", "seed-file")
    }
    commands = (
        ["munged", "--foreground", "--force", f"--key-file={key}", *files.values()],
        ["slurmctld", "-D", "-c", "-f", str(configuration)],
        ["slurmd", "-D", "-f", str(configuration)],
    )
    daemons = []
    try:
        for command in commands:
            with open(directory / f"{command[0]}.out", "w") as out:
                daemons.append(subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT))
            time.sleep(1)
        until(lambda: "idle" in ask(environment, "sinfo", "--noheader", "--format", "%T"), 60)
        yield environment
    finally:
        subprocess.run(["scancel", "--user", "root"], env=environment, capture_output=True, timeout=30)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def ask(environment: dict[str, str], *command: str) -> str:
    """Returns what one of SLURM's commands prints."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout


def until(condition, seconds: float) -> None:
    """Waits until `condition` holds. Raises AssertionError where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.5)


def free_port() -> int:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
