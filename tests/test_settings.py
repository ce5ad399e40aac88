"""The schema of settings: it knows every key of conf/, refuses what no run can have in one line, and never fails."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from arguments import base_arguments
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from soe_bench import settings
from soe_bench.config import CONF, identity, job_configs, make, with_method
from soe_bench.errors import UserError
from soe_bench.method import ExpertMethod
from soe_bench.records import CONTROLS
from soe_bench.runs import sweep
from soe_bench.runs.run import parent_of

ROOT = Path(__file__).parents[1]
GROUPS = ("method", "pi", "data", "embedder", "scale", "tuned", "model", "launcher", "sweep")
OPTIONS = [
    ("+" * (group == "sweep") + f"{group}={path.stem}")
    for group in GROUPS
    for path in sorted((CONF / group).glob("*.yaml"))
    if path.stem[0] != "_"
]
NOT_INSTALLED = "is not installed"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_key_of_conf_is_known(option):
    """A class of the project has a schema of its own, which forbids any other key."""
    try:
        cfgs, _ = job_configs([option, "hydra.mode=RUN"])  # which checks them
    except UserError as error:
        assert NOT_INSTALLED in str(error)
        return
    for cfg in cfgs:
        for group, (known, _) in settings.CLASSES.items():
            node = OmegaConf.select(cfg, group)
            assert node is None or node._target_ in known, f"give {node._target_} its settings in settings/classes.py"


def test_every_group_of_conf_is_tried():
    assert {folder.name for folder in CONF.iterdir() if folder.is_dir()} == set(GROUPS)


TUNED = [path.stem.rsplit("_", 1) for path in sorted((CONF / "tuned").glob("*.yaml"))]


@pytest.mark.parametrize("method, scale", TUNED)
def test_tuning_at_a_scale_changes_the_method_there_alone(method, scale):
    def run(scale: str, *more: str) -> DictConfig:
        return job_configs([f"method={method}", f"scale={scale}", *more])[0][0]

    untuned, tuned = run("small").method, run(scale).method
    changed = OmegaConf.load(CONF / "tuned" / f"{method}_{scale}.yaml")
    assert (
        tuned != untuned
        and tuned == OmegaConf.merge(OmegaConf.to_container(untuned), changed)
        and tuned.keys() == untuned.keys()
    )
    assert run(scale, "method.lr=0.5").method.lr == 0.5


def test_references_are_tuned_for_their_scale_and_a_start_is_not():
    cfgs, _ = job_configs(["+sweep=experts", "scale=medium", "method.n_experts=4", "seed=0"])
    rates = {cfg.method.name: cfg.method.lr for cfg in cfgs}
    assert rates["generic"] == OmegaConf.load(CONF / "tuned/generic_medium.yaml").lr
    (start,) = (parent_of(cfg).method.lr for cfg in cfgs if cfg.method.name == "soup")
    assert start == OmegaConf.load(CONF / "method/generic.yaml").lr != rates["generic"]


def test_the_path_of_a_class_identifies_it_outside_the_project_alone():
    own, stranger = {"_target_": "soe_bench.model.Llama", "x": 1}, {"_target_": "mine.model.Llama", "x": 1}
    assert identity(own) == {"class": "Llama", "x": 1} == identity(own | {"_target_": "baselines.moved.Llama"})
    assert identity(stranger) == {"class": "mine.model.Llama", "x": 1}


def test_a_parent_on_all_tokens_is_the_run_that_is_tuned_for_the_scale():
    (cfg,), _ = job_configs(["method=logit_adjustment", "scale=medium"])
    assert parent_of(cfg).method == job_configs(["method=generic", "scale=medium"])[0][0].method


def test_a_setting_that_a_file_leaves_out_is_added_with_a_plus():
    (cfg,), _ = job_configs(["method=crisp_branched", "scale=medium", "+method.parent.lr=1.7e-2"])
    assert (cfg.method.parent.fraction, parent_of(cfg).method.lr) == (0.9, 1.7e-2)


def test_a_scale_has_the_name_of_its_file():
    assert all(OmegaConf.load(path).scale_name == path.stem for path in (CONF / "scale").glob("*.yaml"))


def test_names_agree_with_the_code():
    assert set(CONTROLS) == set(ExpertMethod.controls)


@pytest.mark.parametrize(
    "arguments, says",
    [
        ("data.k=0", "data.k is 0: it must be a whole number from 1 to 1000000"),
        ("data.k=2.5", "data.k is 2.5"),
        ("train.tokens=nan", "train.tokens is nan: it must be a whole number"),
        ("train.tokens=200", "train.tokens is 200: it must be at least the 1024 tokens of one step"),
        ("train.seq_len=32.5", "train.seq_len is 32.5"),
        ("threads=1000000", "threads is 1000000: it must be a whole number from 1 to 1024, or null"),
        ("threads=1.5", "threads is 1.5"),
        ("seed=18446744073709551616", "seed is 18446744073709551616: it must be a whole number from 0 to 4294967295"),
        ("seeds.kmeans=4294967296", "seeds.kmeans is 4294967296"),
        ("method.n_experts=1.5", "method.n_experts is 1.5"),
        ("method.n_experts=true", "method.n_experts is True"),
        ("method.expert_lr_ratio=nan", "method.expert_lr_ratio is nan: it must be a finite number"),
        ("method.router.hidden=0", "method.router.hidden is 0"),
        ("method.router.activation=sofmax", "it must be one of softmax, linear"),
        ("train.optimizer.max_grad_norm=-1", "train.optimizer.max_grad_norm is -1: it must be a finite number above 0"),
        ("train.optimizer.eps=1e-300", "train.optimizer.eps is 1e-300: it must be a number from 1e-30 to 1"),
        ("model.base.hidden_size=33", "hidden_size is 33: it must be model.base.num_attention_heads (2) times an even"),
        ("model.base.hidden_size=34", "times an even number"),
        ("references=[nosuch]", "there is no method 'nosuch': choose one of "),
        ("train.curve_tokens=1", "train.curve_tokens is 1: it must be a whole number from 2"),
        ("--config-dir=X", "settings are given as key=value, not as '--config-dir=X': see python"),
        ("--method soup", "key=value, not as '--method'"),
        ("soup", "key=value, not as 'soup'"),
        ("hydra=null", "must be a string or a list"),
        ("=5", "must be a string or a list"),
        ("train.optimizer.beta1=nan", "train.optimizer.beta1 is nan"),
        ("train.optimizer.beta1=1.5", "train.optimizer.beta1 is 1.5: it must be a number from 0, below 1"),
        ("train.optimizer.beta2=1", "train.optimizer.beta2 is 1"),
        ("evaluate.fine_tuning.lrs=[nan]", "evaluate.fine_tuning.lrs.0 is nan"),
        ("evaluate.fine_tuning.lrs=[]", "evaluate.fine_tuning.lrs is []"),
        ("evaluate.documents=[4,4]", "evaluate.documents is [4, 4]: it must be a list [A,B] of different numbers"),
        ("evaluate.controls=[unifrom]", "evaluate.controls.0 is 'unifrom': it must be one of uniform, "),
        ("train.checkpoint_every=nan", "train.checkpoint_every is nan"),
        ("data.passage_characters=0", "data.passage_characters is 0"),
        ("data.minimum_characters=abc", "data.minimum_characters is 'abc'"),
        ("data.vocab_size=100", "data.vocab_size is 100: it must be a whole number from 257 to 65536"),
        ("data.source.mixtures.first=[2]", "data.source.mixtures.first.0 is 2"),
        ("method.parent.fraction=abc", "method.parent.fraction is 'abc'"),
        ("method.lr=fast", "method.lr is 'fast'"),
        ("scale_name=../../x", "scale_name is '../../x'"),
        ("data.name=a/b", "data.name is 'a/b'"),
        ("device=cpu:7", "device is 'cpu:7': it must be cpu or cuda"),
        ("wandb.mode=off", "wandb.mode is 'off': it must be one of offline"),
        ("wandb.project=team/project", "wandb.project is 'team/project'"),
        ("home=", "home is ''"),
        ("~method", "method is missing"),
        ("~scale", "or the scale: a run needs both"),
        ("~train.checkpoint_every", "train.checkpoint_every is missing"),
        ("~method.router.hidden", "method.router.hidden is missing"),
        ("method.router=3", "method.router is 3: it must be a group of settings"),
        ("data.source=3", "data.source is 3: it must be a group of settings"),
        ("method._target_=[1]", "method._target_ is [1]"),
        ("model.base.vocab_size=100", "it must be data.vocab_size (320)"),
        (
            "method=merge_ties method.scale=tuend",
            "method.scale is 'tuend': it must be default, tuned or",
        ),
        ("method=merge_ties method.density=0", "method.density is 0"),
        ("train.tokens=1e6", "train.tokens is 1000000.0: it must be a whole number from 1: write 1000000"),
        ("train.leng=3", "there is no setting train.leng: train has seq_len, tokens, "),
        ("train.optimizer.lr=3", "there is no setting train.optimizer.lr: did you mean method.lr? "),
        ("trian.tokens=3", "there is no setting trian: did you mean train?"),
        ("+method.router.hiden=3", "there is no setting method.router.hiden: did you mean hidden?"),
        ("+hydra.verbos=3", "there is no setting hydra.verbos"),
        (
            "method.router={hiden:3,activation:linear,init_std:1}",
            "there is no setting method.router.hiden: method.router has hidden, ",
        ),
        ("hydra.launcher.n_jobs=2", "the launcher has no setting n_jobs: choose one that has, launcher=NAME"),
        ("method=suop", "there is no method 'suop': choose one of soup, "),
        ("data=whels", "there is no data 'whels': choose one of wheels, "),
        ("scale=smal", "there is no scale 'smal': choose one of small, "),
        ("pi=sparce", "there is no pi 'sparce': choose one of sparse, "),
        ("+sweep=expert", "there is no sweep 'expert': choose one of experts, "),
        ("method.parent.method=genric", "there is no method 'genric': choose one of generic, "),
    ],
)
def test_what_no_run_can_have_is_one_line(arguments, says, tmp_path, shared_home):
    with pytest.raises(UserError) as refused:
        sweep.Plan.of(*job_configs([*base_arguments(tmp_path, shared_home), *arguments.split()]))
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_a_method_of_a_stranger_has_settings_of_its_own(compose):
    cfg = compose("method=generic", "method._target_=made_up_methods.TwoFiles")
    OmegaConf.update(cfg, "method.weights", ["of", "its", "own"], force_add=True)
    settings.check(cfg)
    cfg.method.lr = "fast"  # what every method has is checked
    with pytest.raises(UserError, match="method.lr is 'fast'"):
        settings.check(cfg)
    ours = compose("method=generic")
    OmegaConf.update(ours, "method.weights", "h", force_add=True)
    with pytest.raises(UserError, match="there is no setting method.weights"):
        settings.check(ours)


WILD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_characters="$", exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["../x", "${seed}", "${nothing}", "${oc.env:NOPE}", "???", "soe_bench.soup.Router", 10**400]),
    st.lists(st.one_of(st.floats(), st.integers(), st.none(), st.text("ab", max_size=2)), max_size=3),
    st.dictionaries(st.sampled_from(["method", "_target_", "a", "lr"]), st.integers(), max_size=2),
)


MIXED = ["method=soup", "method=merge_ties", "data=local", "data=pile", "embedder=minilm"]


@cache
def composed(option: str) -> DictConfig:
    return job_configs(["scale=test", option])[0][0]


def keys(node, before=""):
    for key, value in node.items():
        yield before + str(key)
        if isinstance(value, DictConfig):
            yield from keys(value, f"{before}{key}.")


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_value_of_any_key_is_accepted_or_refused(data):
    cfg = composed(data.draw(st.sampled_from(MIXED))).copy()
    key = data.draw(st.sampled_from(list(keys(cfg))))
    try:
        OmegaConf.update(cfg, key, data.draw(WILD), merge=False)
    except Exception:  # omegaconf's own grammar of interpolations, which the command line answers
        return
    try:
        settings.check(cfg)
        with_method(cfg, "generic")
    except UserError as error:
        assert "\n" not in str(error)


def test_configurations_are_composed_inside_another_hydra_application(tmp_path):
    (tmp_path / "mine.yaml").write_text("x: 1")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        with pytest.raises(UserError, match="data.k is 0"):
            job_configs(["data.k=0"])
        assert job_configs(["scale=test"])[0][0].scale_name == "test"
        assert compose("mine").x == 1
    assert not GlobalHydra.instance().is_initialized()


HOSTILE = [
    {"_target_": "pandas.read_pickle", "filepath_or_buffer": "x.pkl"},
    {"_target_": "os.system", "command": "true"},
    {"_target_": "builtins.eval", "source": "1"},
    {"_target_": "baselines.generic.Generic", "name": "x", "lr": 1.0, "parent": {"a": [{"_target_": "os.getcwd"}]}},
    {"_target_": "baselines.generic.Generic", "_partial_": True, "name": "x", "lr": 1.0},
    {"_target_": "baselines.generic.Generic", "_args_": ["x", 1.0]},
    {"_target_": "soe_bench_evil.x"},
    {"_target_": "soe_bench.checkpoint.os.system", "command": "true"},
    {"_target_": "soe_bench.checkpoint.load", "path": "x"},
    {"_target_": "soe_bench.soup.nn.Linear"},
    {"_target_": "soe_bench.runs.run.Path"},
    {"_target_": 7},
]


@pytest.mark.parametrize("node", HOSTILE, ids=lambda node: str(node["_target_"]))
def test_a_file_from_elsewhere_makes_nothing_but_classes_of_this_project(node):
    with pytest.raises(UserError, match="refused|not allowed|cannot be imported"):
        make(OmegaConf.create(node))


def test_a_package_of_ones_own_is_named_in_the_environment(monkeypatch):
    node = OmegaConf.create({"_target_": "made_up_methods.TwoFiles", "name": "two", "lr": 0.1})
    assert make(node).label == "two"
    monkeypatch.delenv("SOE_BENCH_PACKAGES")
    with pytest.raises(UserError, match="SOE_BENCH_PACKAGES=NAME"):
        make(node)


def test_settings_of_ones_own_lie_in_a_folder_of_ones_own(tmp_path, monkeypatch):
    """The method as a job, as a reference of a sweep, with what was tuned at a scale, and in the list of methods."""
    for name, text in {
        "method/two.yaml": "{_target_: made_up_methods.TwoFiles, name: two, lr: 0.1}",
        "tuned/two_small.yaml": "# @package method\nlr: 0.2\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="there is no method 'two'"):
        job_configs(["method=two"])
    monkeypatch.setenv("SOE_BENCH_CONF", str(tmp_path))
    ((cfg,), _) = job_configs(["method=two"])
    assert cfg.method._target_ == "made_up_methods.TwoFiles" and cfg.method.lr == 0.2
    cfgs, _ = job_configs(["+sweep=experts", "seed=0", "references=[two]", "scale=medium"])
    assert [cfg.method.lr for cfg in cfgs if cfg.method.name == "two"] == [0.1]
    with pytest.raises(UserError, match="there is no method 'tow': choose one of two, "):
        job_configs(["method=tow"])
    monkeypatch.setenv("SOE_BENCH_CONF", str(tmp_path / "none"))
    with pytest.raises(UserError, match="none, which is no folder"):
        job_configs(["method=generic"])


@pytest.mark.parametrize(
    "text, says",
    [
        ("import nunpy\n", "ModuleNotFoundError: No module named 'nunpy' (typo.py:1)"),
        ("class X\n", "SyntaxError: expected ':'"),
        ("class Y: pass\n", "AttributeError: module 'typo' has no attribute 'X'"),
        (
            "class X:\n    def __init__(self, name):\n        self.a = nmae\n",
            "NameError: name 'nmae' is not defined (ty",
        ),
        ("import json\n\n\nclass X:\n    def __init__(self, name):\n        json.loads(name)\n", "(typo.py:6)"),
        ("class X:\n    def __init__(self, other):\n        pass\n", "unexpected keyword argument 'name'"),
    ],
)
def test_a_typo_in_a_method_of_ones_own_shows_the_exception(text, says, tmp_path, monkeypatch):
    (tmp_path / "typo.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOE_BENCH_PACKAGES", "typo")
    sys.modules.pop("typo", None)
    with pytest.raises(UserError) as refused:
        make(OmegaConf.create({"_target_": "typo.X", "name": "x"}))
    assert says in str(refused.value) and "_instantiate2.py" not in str(refused.value)


HEAVY = ("torch", "pandas", "sklearn", "datasets", "matplotlib", "wandb", "transformers")


@pytest.mark.parametrize(
    "code, status",
    [
        ("import soe_bench", 0),
        ("import sys; sys.argv = ['x', 'data.k=0']; from soe_bench.__main__ import main; code = main()", 2),
        ("import sys; sys.argv = ['x', 'method=nosuch']; from soe_bench.__main__ import main; code = main()", 2),
        (
            "import sys; sys.argv = ['x', '+sweep=pilot', 'data=local', 'data.source.folder=nosuch']; "
            "from soe_bench.__main__ import main; code = main()",
            2,
        ),
        ("import sys; sys.argv = ['x', 'references=[no]']; from soe_bench.__main__ import main; code = main()", 2),
        ("import sys; sys.argv = ['x', 'home=/dev/null']; from soe_bench.__main__ import main; code = main()", 2),
        ("import sys; sys.argv = ['x', '--cfg', 'job']; from soe_bench.__main__ import main; code = main()", 0),
        ("import sys; sys.argv = ['x', 'plan', '--help']; from soe_bench.__main__ import main; code = main()", 2),
        ("import sys; sys.argv = ['x', 'sed=1', '--help']; from soe_bench.__main__ import main; code = main()", 2),
        ("import sys; sys.argv = ['x', '-m', '--cfg', 'job']; from soe_bench.__main__ import main; code = main()", 2),
        ("from soe_bench.plan import main; code = main(['scale=nosuch'])", 2),
        ("from soe_bench.check import main; code = main(['method=nosuch'])", 2),
        ("from soe_bench.data.__main__ import main; code = main(['audit', 'nosuch'])", 2),
        ("from soe_bench.data.__main__ import main; code = main(['audit', 'data=local', 'data.source.folder=no'])", 2),
        ("from soe_bench.report.__main__ import main; code = main(['/nonexistent'])", 2),
    ],
)
def test_what_is_answered_at_once_imports_nothing_heavy(code, status, tmp_path):
    code = (
        f"code = 0; {code}; import sys; assert code == {status}, code; print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr
    assert done.stderr.count("\n") == (status == 2)
