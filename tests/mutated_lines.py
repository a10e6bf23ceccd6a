"""Command lines with something wrong in them: every key of the schema × wrong values, and hand-picked ones."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import toy_runs
from omegaconf import DictConfig, OmegaConf

Line = tuple[str, ...]  # words that come after those of `toy_runs.TOY`

GROUPS = ("integrator", "model", "adapters", "data", "trainer", "logger", "budget", "recipe", "experiment")
WRONG = (  # in the place of any value
    *("null", "abc", "''", "' '", "true", "[]", "[1,2]", "[abc]", "{}", "{a:1}", "[[1]]", "'???'", "é", "'a\\nb'"),
    *("-1", "0", "1", "2.5", "1e30", "-1e30", "99999999999999999999", "1e-320", "nan", "inf", "-inf", "0x10"),
    *("'${nowhere}'", "'${tau}'", "'${oc.env:DLRT_NOT_SET}'", "'${no_resolver:1}'", "'${'", "${nowhere}", "${.x}"),
    *("[", "{", "'", "a b", "a:b", "1,2", "(", "range(3)", "choice()", "interval(0,1)", "glob(*)", "a=b", "\\"),
)
KEYS = (
    *("~{0}", "~{0}=1", "+{0}=1", "++{0}=abc", "+{0}.x=1", "{0}x=1", "{0}.{0}=1", "{0}", "{0}@x=1", "@{0}=1", "{0}.=1"),
    *("{0}=${{{0}}}", "{0}=a{0}"),
)
SWEPT = ("{0}=abc,1", "{0}=null,null", "{0}=1,2,nan", "{0}=choice(1,", "{0}=range(0,2)", "{0}=interval(0,1)", "~{0}")
OF_GROUPS = (
    *("nope", "null", "''", "[a]", "{}", "{name:x}", "true", "1", "../x", "/etc/passwd", "a/b", "nope,null", "[a,b]"),
    *("[1,2]", "[[1]]", "'${'"),
)
NASTY = (  # for one run; " ; " stands between words
    *("=", "=1", "tau", "tau==1", "tau=0.1 tau=", "+=1", "~", "~=", "@=1", "tau=0.1\nseed=1", "ta u=1", "", " "),
    *("+tau.x=1", "trainer=1", "trainer={epochs:abc}", "trainer={epoch:1}", "trainer=[1]", "~trainer", "~model"),
    *("timing=null", "timing={}", "timing.repeats={a:b}", "~timing", "~integrator", "~data", "~logger", "~budget"),
    *("weights=../../x", "weights=/etc/passwd", "weights='a b'", "weights=..", "weights=[a]", "weights=''"),
    *("init=svd ; weights=../../x", "init=svd ; weights=0123456789ab", "init=svd ; weights=0123456789AB"),
    *("blocks=abc", "blocks=[]", "blocks=[1]", "blocks={a:1}", "blocks=[{}]", "blocks=[[]]", "blocks=[{tau:[]}]"),
    *("budgets=abc", "budgets={a:1}", "budget={name:x,overrides:{tau:0.1}}", "budget.overrides={tau:2}", "table=1"),
    *("figures=abc", "figures=[1]", "title=[1]", "table={kind:nope}", "+blocks.x=1", "title=null", "figures=null"),
    *(
        "model.target=toy_runs",
        "model.target=toy_runs:nope",
        "model.target=:",
        "model.target=a:",
        "model.target=math:pi",
    ),
    *("model.target=toy_runs:Net.x", "model.target='toy_runs: Net'", "model.target=builtins:len"),
    *("model.target=torch:nn", "model.target=torch.nn:Linear", "model.target=torch.nn:Module"),
    *("model.target=torch.nn:Linear ; +model.kwargs.in_features=-1 ; +model.kwargs.out_features=3",),
    *("model.target=torch.nn:Linear ; +model.kwargs.in_features=8 ; +model.kwargs.out_features=a",),
    *("model.target=torch.nn:Linear ; +model.kwargs.in_features=8 ; +model.kwargs.out_features=999999999999",),
    *("model.target=experiments.models:build", "model.target=experiments.data:load_mnist", "data.target=toy_runs:Net"),
    *("data.target=experiments.models:mlp", "data.target=experiments.data:load_target", "data.target=torch:zeros"),
    *("data.target=builtins:dict", "data.target=builtins:tuple", "data.target=os:getcwd", "data.target=os.path:join"),
    *("model=mlp5_500 ; model.kwargs.width=0", "model=mlp5_500 ; model.kwargs.width=abc", "model=lenet5"),
    *("model=lenet5 ; model.kwargs.classes=-3", "model=lenet5 ; model.kwargs.classes=2.5", "model=mlp5_500"),
    *("model=vit_tiny ; model.kwargs.heads=3", "model=vit_tiny ; model.kwargs=null", "model=vit_tiny"),
    *("+model.kwargs.mode=[1]", "+model.kwargs.mode=null", "+model.kwargs.mode={a:1}", "+model.kwargs.mode=3"),
    *("+model.kwargs.x=1", "+model.kwargs={x:1}", "model.kwargs=null", "model.kwargs=abc", "model.kwargs=[1]"),
    *("+data.kwargs.count=abc", "+data.kwargs.count=2.5", "+data.kwargs.count=null", "+data.kwargs.count=[1]"),
    *("+data.kwargs.val=abc", "+data.kwargs.val=null", "+data.kwargs.count=1", "+data.kwargs.count=nan"),
    *("data.kwargs={count:3,count:4}", "+data.kwargs.count=0", "data=mnist ; data.kwargs.split=55k"),
    *(
        "data=mnist ; data.kwargs.train_limit=abc",
        "data=folder",
        "data=folder ; data.root=/nope",
        "data=cifar10 ; data.root=/nope",
    ),
    *("model.skip=['*']", "model.skip=['[']", "model.skip=[1]", "model.skip=[null]", "model.skip=0", "model.skip=[[]]"),
    *("results_dir=[a]", "results_dir=null", "results_dir=''", "results_dir=/dev/null", "results_dir=1"),
    *("results_dir=/dev/null/x", "device=cuda:99", "device=[cpu]", "device=mps", "threads=1e9", "threads=1000000"),
    *("rerun=false", "rerun=[failed]", "seed=1.5", "seed='0'", "seed=-0", "seed=1_000", "tau=1e400", "tau=-0.0"),
    *("integrator=ABC_PSI", "integrator=abc-psi", "integrator=abc_psi.yaml", "integrator=dense ; tau=2", "init=SVD"),
    *("integrator.name=[abc_psi]", "integrator.name=null", "integrator/abc_psi=x", "integrator@model=dense"),
    *("on_error=stop", "checkpoint_seconds=-1", "checkpoint_seconds=nan", "objective=[nope]", "objective=abc"),
    *("hydra.run.dir=/dev/null/x", "hydra.run.dir=null", "hydra.job.chdir=abc", "hydra.mode=FOO", "hydra.mode=null"),
    *("hydra.verbose=[]", "hydra=null", "hydra.nope=1", "+hydra.nope=1", "hydra/launcher=nope", "hydra/nope=1"),
    *("hydra/sweeper=nope", "hydra/job_logging=nope", "hydra/hydra_logging=nope", "hydra.job.name=[1]"),
    *("hydra.job_logging=1", "hydra.job_logging.root.level=NOPE", "hydra.hydra_logging.root.level=3.5"),
    *("hydra.output_subdir=[1]", "hydra.searchpath=[nope]", "hydra.searchpath=1", "hydra.callbacks=1"),
    *("+hydra.callbacks.x._target_=os.getcwd", "+hydra.callbacks.x={}", "hydra.job.env_set=1"),
    *("+hydra.callbacks.x._target_=nope.Nope", "+hydra.job.env_set.A=[1]", "hydra.sweep.dir=null"),
    *("logger=nope", "logger.name=../none", "logger={mode:nope}", "logger.nope=1"),
    *("--config-name=nope", "--config-dir=/nope", "--config-path=nope", "--cfg=nope", "--resolve", "--nope", "-x"),
    *("--config-name", "--experimental-rerun=nope", "--cfg=job ; --info=all", "--info=x"),
)
NASTY_SWEEPS = (
    *("results_dir=a,b", "seed=range(3,1)", "tau=glob(*)", "integrator=glob(nope*)", "hydra.sweeper.max_batch_size=-1"),
    *("tau=", "tau=,", "tau=0.1,", "tau=choice()", "tau=range(1)", "tau=range(0,1,0)", "tau=range(0,inf)"),
    *("tau=sort(1,a)", "tau=tag(interval(0,1))", "integrator=glob(ps*)"),
    *("hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size=abc"),
    *("hydra.sweeper.params=1", "hydra.sweeper.params=[1]", "+hydra.sweeper.params.tau=2"),
    *("+hydra.sweeper.params.nope=1", "hydra.sweeper.nope=1"),
    *("hydra.sweeper._target_=os.getcwd", "hydra.sweeper=null", "hydra.launcher._target_=os.getcwd"),
    *("hydra.launcher=null", "hydra/launcher=nope", "hydra/sweeper=nope", "hydra.launcher.x=1", "hydra/launcher=null"),
    *("hydra/sweeper=null", "hydra.mode=RUN", "hydra.sweep.subdir=[1]"),
    *("experiment=nope", "experiment=null", "experiment=demo ; protocol=nope", "budget=nope"),
    *("experiment=dlrt_table5_mlp500 ; protocol=nope", "budget=null", "budget=smoke,gpu", "protocol=tuned"),
    *("protocol=[]", "recipe=nope", "blocks=[{tau:2}]", "blocks=[{nope:1}]", "blocks=[{tau:[]}]", "blocks=[1]"),
    *("blocks={a:[{}]}", "blocks=abc", "blocks=1,2", "blocks=[{'':1}]", "blocks=[{rank:{take:nope}}]"),
    *("blocks=[{rank:{from:{integrator:dense},take:mean_rank}}]", "blocks=[{rank:{from:1,take:mean_rank}}]"),
    *("blocks=[{weights:{from:{},take:weights},init:svd}]", "blocks=[{tau:{a:1}}]", "blocks=[{trainer:{epochs:1}}]"),
    *("blocks=[{integrator:nope}]", "blocks=[{hydra.launcher:x}]", "blocks=[{integrator:null}]"),
    *("blocks=[{model.target:'nope:x'}]", "blocks=[{~tau:1}]", "blocks=[{+x:1}]", "blocks=[{seed:[0,a]}]"),
    *("budget.overrides={tau:2}", "budget.overrides={nope:1}", "+budget.overrides.tau=[1,2]", "budgets={full:{tau:3}}"),
    *("seed=0,0", "seed=0,a", "rank=1,1000", "rank=1,null", "integrator=abc_psi,nope"),
    *("integrator=dense,dense ; tau=1,2",),
    *("logger.group=1,2", "results_dir=null", "rerun=all,none", "rerun=nope", "device=cpu,nope"),
    *("~seed", "~model", "integrator=lora,dense ; adapters=vit,none", "init=svd,nope ; weights=null,abc"),
    *("task=train,nope", "trainer=default,nope", "on_error=continue,nope"),
)  # fmt: skip


def hand_picked(sweep: bool) -> list[Line]:
    """Lines for one run or for a sweep, of everything that came to mind."""
    return unique(tuple(line.split(" ; ")) for line in (NASTY_SWEEPS if sweep else NASTY))


def systematic(sweep: bool) -> list[Line]:
    """Lines for one run or for a sweep: each key and group with each wrong value."""
    keys = list(leaves(toy_runs.compose(*toy_runs.TOY)))
    if sweep:
        lines = [form.format(key) for key in keys for form in SWEPT]
        return unique((line,) for line in [*lines, *(f"{g}={value},nope" for g in GROUPS for value in OF_GROUPS)])
    lines = [f"{key}={value}" for key in keys for value in WRONG]
    lines += [form.format(key) for key in keys for form in KEYS] + [typo(key) + "=1" for key in keys]
    lines += [f"{prefix}{group}={value}" for group in GROUPS for value in OF_GROUPS for prefix in ("", "+", "++")]
    return unique([*((line,) for line in lines), *combinations()])


def leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a config, those of its mappings included."""
    for key in node:
        yield f"{prefix}{key}"
        child = None if OmegaConf.is_missing(node, str(key)) else node[key]
        if isinstance(child, DictConfig):
            yield from leaves(child, f"{prefix}{key}.")


def typo(key: str) -> str:
    """The key with two letters exchanged."""
    i = random.Random(key).randrange(len(key) - 1)
    return key[:i] + key[i + 1] + key[i] + key[i + 2 :]


def combinations() -> list[Line]:
    """Choices of groups and tasks that do not go together, among some that do."""
    draw = random.Random(0)
    axes = {
        "integrator": ("abc_psi", "psi", "dense", "lora", "adalora", "svd_factor", "parallel_bug"),
        "adapters": ("none", "vit", "probe"),
        "init": ("orthonormal", "normal", "svd"),
        "weights": ("null", "0123456789ab"),
        "task": ("train", "time_training", "time_prediction"),
        "rank": ("0", "1", "4", "99"),
        "tau": ("null", "0.1", "1"),
        "integrator.rank_budget": ("null", "0", "3", "99"),
    }
    fixed = ("timing.repeats=1", "timing.warmup=0")
    return [(*(f"{key}={draw.choice(values)}" for key, values in axes.items()), *fixed) for _ in range(300)]


def unique(lines: Iterable[Line]) -> list[Line]:
    """The lines without repeats."""
    return list(dict.fromkeys(lines))
