"""Which values are possible: rows that pass and rows that are refused, with the words of the refusal."""

from pathlib import Path

import pytest
import torch
from omegaconf.errors import OmegaConfBaseException
from toy_runs import ADAPTED, PROBED, TOY, command, compose, records_in

from experiments.config import ConfigError
from experiments.validate import validate

VALID = [
    ["tau=0"],
    ["tau=0.999"],
    ["tau=null"],
    ["rank=1"],
    ["rank=8"],
    ["integrator.min_rank=4"],
    ["integrator.max_rank=4"],
    ["integrator=bug", "rank=2", "integrator.min_rank=3"],
    ["integrator=dense", "rank=0", "gain=0"],
    ["init=normal"],
    ["init=svd"],
    ["trainer.warmup_steps=0"],
    ["trainer.warmup_steps=6"],
    ["trainer.select=test", "+data.kwargs.val=false"],
    ["trainer.schedule=exponential", "trainer.gamma=1"],
    ["trainer.collapse_epoch=2"],
    ["trainer.select_last=1"],
    ["integrator.optimizer=adam", "integrator.transport=index"],
    ["model.skip=['2']"],
    ["trainer.accumulate=16", "trainer.precision=bf16"],
    ["tau=null", "integrator.rank_budget=2"],
    [*ADAPTED],
    [*ADAPTED, "gain=0", "integrator=svd_factor"],
    [*ADAPTED, "integrator=adalora", "integrator.rank_budget=6"],
    [*ADAPTED, "task=time_training"],
    [*PROBED],
]
VIT = ("adapters=vit", "adapters.trainable=['2.*bias$']", "rank=3")
LINEAR = ["model.target=torch.nn:Linear", "+model.kwargs.out_features=2", "rank=2"]
INVALID = [
    (["tau=1"], "tau=1.0 must lie in [0, 1)"),
    (["tau=-0.1"], "tau=-0.1 must lie in [0, 1)"),
    (["tau=nan"], "tau=nan must lie in [0, 1)"),
    (["rank=0"], "rank=0: abc_psi needs a rank of at least 1"),
    (["integrator=bug", "rank=0"], "rank=0: bug needs a rank of at least 1"),
    (["integrator.min_rank=5"], "integrator.min_rank=5 is above the start rank=4: lower it or raise rank"),
    (["integrator.max_rank=3"], "integrator.max_rank=3 is below the start rank=4: raise it or lower rank"),
    (["integrator.min_rank=0"], "min_rank must be an integer of at least 1, got 0"),
    (["integrator.optimizer=adagrad"], "optimizer must be one of sgd, momentum, adam, adamw, got 'adagrad'"),
    (["integrator=bug", "integrator.rank_budget=5"], "integrator.rank_budget=5: bug keeps its ranks; leave it null"),
    (["integrator.rank_budget=1"], "rank_budget=1 is less than min_rank=1 for each of the 2 low-rank layers"),
    (["integrator=dense", "+integrator.base_lr=0.1"], "dense has one learning rate for all; use trainer.lr"),
    (["integrator=lora"], "integrator=lora trains adapters and nothing else: add adapters=vit"),
    (["adapters=vit", "integrator=dense"], "plain training has no adapters; adapters=none trains all weights"),
    (["adapters=probe"], "abc_psi with adapters=probe: there are no adapters to train; use integrator=dense"),
    (["adapters=vit"], "targets: 'self_attention' is found in no name; the layers that can be adapted are 0, 2"),
    ([*VIT, "adapters.targets=['(']"], "targets: '(' is no regular expression"),
    ([*ADAPTED, "adapters.trainable=[norm]"], "trainable: 'norm' is found in no name; the parameters are 0.weight"),
    ([*ADAPTED, "rank=4"], "adapters=vit on model=import: 2: rank must lie in 1 … min(m, n) = 3 for a 3 × 16 matrix"),
    ([*ADAPTED, "integrator=adalora", "integrator.rank_budget=7"], "rank_budget must be in 1 … 6"),
    ([*ADAPTED, "task=time_prediction"], "merged into the weights, adapters take no time"),
    ([*ADAPTED, "adapters.alpha=-1", "integrator=lora"], "must be above 0, got -1.0"),
    (["trainer.accumulate=0"], "trainer.accumulate=0: give at least 1"),
    (["trainer.accumulate=17"], "is more parts than trainer.batch_size=16 has images: lower it"),
    (["trainer.precision=fp16"], "trainer.precision=fp16: did you mean 'bf16'? choose one of bf16, fp32"),
    (["data.root=somewhere"], "data=import: unknown key 'root' in kwargs: toy_runs:clouds takes count, val"),
    (["model.weights=vit.pth"], "model=import: unknown key 'weights' in kwargs"),
    (["integrator.transport=rotate"], "transport must be one of"),
    (["integrator.decay=-1"], "decay must be"),
    (["integrator.inner_steps=0"], "inner_steps must be an integer of at least 1"),
    (["integrator.max_grad_norm=0"], "max_grad_norm must be None or above 0"),
    (["init=svdd"], "init=svdd: did you mean 'svd'? choose one of normal, orthonormal, svd"),
    (["gain=0"], "gain=0.0 must be above 0"),
    (["gain=inf"], "gain=inf must be above 0"),
    (["seed=-1"], "seed=-1 must lie in"),
    (["seed=99999999999999999999999"], "must lie in 0"),
    ([*LINEAR, "+model.kwargs.in_features=9"], "the model does not take images of shape (8,)"),
    ([*LINEAR, "+model.kwargs.in_features=8"], "outputs of shape (2,) do not fit labels 0 … 2: one output per class"),
    (["integrator.inner_steps=9"], "truncates every 18 steps, an epoch has 3: lower it"),
    (["rank=1000"], "rank=1000: no layer of model=import has a rank above 8"),
    (["threads=0"], "threads=0: give at least 1, or null"),
    (["device=gpu"], "device=gpu: did you mean 'cpu'? choose one of auto, cpu, cuda"),
    (["rerun=yes"], "rerun=yes: choose one of all, diverged, failed, none"),
    (["logger.name=tensorboard"], "logger.name=tensorboard: choose one of none, wandb"),
    (["trainer.epochs=0"], "trainer.epochs=0: give at least 1"),
    (["trainer.batch_size=0"], "trainer.batch_size=0: give at least 1"),
    (["trainer.eval_batch_size=0"], "trainer.eval_batch_size=0: give at least 1"),
    (["trainer.lr=0"], "trainer.lr=0.0: the learning rate must be above 0"),
    (["trainer.lr=-1"], "trainer.lr=-1.0: the learning rate must be above 0"),
    (["trainer.lr=inf"], "trainer.lr=inf: the learning rate must be above 0"),
    (["trainer.schedule=linear"], "trainer.schedule=linear: choose one of constant, cosine, exponential"),
    (["trainer.gamma=1.1"], "trainer.gamma=1.1 must lie in (0, 1]"),
    (["trainer.warmup_steps=-1"], "trainer.warmup_steps=-1: give at least 0"),
    (["trainer.warmup_steps=7"], "trainer.warmup_steps=7 is longer than the training of 6 steps"),
    (["trainer.select=paper"], "trainer.select=paper: choose one of test, tuning, validation"),
    (["trainer.select_last=0"], "trainer.select_last=0.0 must lie in (0, 1]"),
    (["trainer.collapse_epoch=3"], "trainer.collapse_epoch=3 must be null or an epoch in 1 … 2"),
    (["trainer.collapse_accuracy=20"], "trainer.collapse_accuracy=20.0 must lie in [0, 1]"),
    (["+data.kwargs.val=false"], "data=import has no validation images"),
    (["data.target=nowhere:Name"], "data=import: module 'nowhere' was not found"),
    (["data.target=toy_runs:TOY"], "data=import: toy_runs:TOY is a tuple"),
    (["data.target=builtins:list"], "data=import: builtins:list returned a list"),
    (["model.target=toy_runs.Net"], "model=import: target 'toy_runs.Net' does not have the form"),
    (["+model.kwargs.mood=ok"], "model=import: unknown key 'mood' in kwargs: did you mean 'mode'?"),
    (["model.skip=[output]"], "on model=import: the pattern 'output' matches no layer"),
    (["weights=0123456789ab"], "weights=0123456789ab with init=orthonormal would be thrown away"),
    (["weights=0123456789ab", "init=svd"], "weights=0123456789ab: there is no file"),
    (["+model.kwargs.mode=nan"], "model.kwargs.mode=nan: a record cannot hold it; give a finite number"),
    (["trainer.batch_size=99999999999999999999"], "trainer.batch_size=99999999999999999999: give a number below 2⁶³"),
    (["threads=1025"], "threads=1025: give at most 1024"),
    (["checkpoint_seconds=-1"], "checkpoint_seconds=-1.0: give at least 0"),
    (["checkpoint_seconds=nan"], "checkpoint_seconds=nan: give at least 0"),
    (["on_error=stop"], "on_error=stop: choose one of continue, raise"),
    (["objective=[test_accuracy]"], "objective=[test_accuracy]: did you mean 'val_accuracy'? choose one or more of"),
    (["model.skip=[[a]]"], "model.skip=[['a']]: give a list of words, as in [a,b]"),
    (["model.name=''"], "model.name='': records are named by it, so give 1 to 60 printable characters"),
    ([f"data.name={61 * 'x'}"], "xx': records are named by it, so give 1 to 60 printable characters"),
    (["model.name='a\nb'"], "records are named by it"),
    (["weights=../../x", "init=svd"], "weights=../../x: give the key of a finished run, 12 hex digits"),
    (["+data.kwargs.count=abc"], "count in kwargs is 'abc': toy_runs:clouds takes count: int"),
]  # fmt: skip


@pytest.mark.parametrize("overrides", VALID, ids=" ".join)
def test_a_possible_run_passes(overrides: list[str]) -> None:
    validate(compose(*TOY, *overrides))


@pytest.mark.parametrize(("overrides", "sentence"), INVALID, ids=[" ".join(given) for given, _ in INVALID])
def test_an_impossible_run_is_refused_in_one_sentence(overrides: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        validate(compose(*TOY, *overrides, f"results_dir={tmp_path}"))
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


def test_a_results_dir_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=f"results_dir={folder}: cannot write there"):
            validate(compose(*TOY, f"results_dir={folder}"))


def test_weights_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "0123456789ab.safetensors").write_bytes(b"junk")
    with pytest.raises(ConfigError, match="weights=0123456789ab: cannot read"):
        validate(compose(*TOY, "init=svd", "weights=0123456789ab", f"results_dir={tmp_path}"))


def test_cuda_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device=cuda: torch finds no GPU; use device=auto"):
        validate(compose(*TOY, "device=cuda"))


@pytest.mark.parametrize("overrides", [["+tyop=1"], ["+trainer.tyop=1"], ["~seed"], ["+integrator.decya=0"]])
def test_a_key_that_is_added_or_taken_away_is_refused(overrides: list[str]) -> None:
    with pytest.raises((OmegaConfBaseException, ConfigError)):
        validate(compose(*TOY, *overrides))


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    assert command(*TOY, "integrator=dense", f"results_dir={tmp_path}") == 0
    start = [f"weights='{records_in(tmp_path)[0]['key']}'", "init=svd", f"results_dir={tmp_path}"]
    validate(compose(*TOY, *start))
    other = ["model.target=experiments.models:mlp", "+model.kwargs.in_features=8", "+model.kwargs.width=5"]
    with pytest.raises(ConfigError, match=r"on model=import: the weights hold no hidden\.0\.weight of shape"):
        validate(compose(*TOY, *other, *start))


VIT_TINY = ("model=vit_tiny", "data=import", "data.target=toy_runs:pictures", "trainer.warmup_steps=0")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["model.kwargs.image_size=16", "integrator=dense"],
            "the model does not take images of shape (3, 8, 8) (Wrong image height!",
        ),
        (
            ["model.kwargs.classes=3", "integrator=dense"],
            "outputs of shape (3,) do not fit labels 0 … 3: one output per class",
        ),
        (["rank=129", "adapters=vit"], "rank must lie in 1 … min(m, n) = 128"),
        (["model.weights={path}", "rank=8"], "model=vit_tiny: "),
    ],
)
def test_a_transformer_that_does_not_fit_is_refused(overrides: list[str], sentence: str, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "other.pth")
    given = [word.format(path=tmp_path / "other.pth") for word in overrides]
    with pytest.raises(ConfigError) as refused:
        validate(compose(*VIT_TINY, "model.kwargs.image_size=8", *given, f"results_dir={tmp_path}"))
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


def test_a_bug_in_a_model_is_no_mistake_in_the_config() -> None:
    with pytest.raises(RuntimeError, match="a bug in the constructor"):
        validate(compose(*TOY, "+model.kwargs.mode=bug"))
