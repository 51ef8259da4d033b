import pytest

from dragoman import ConfigError, ModelNotFoundError
from dragoman.training import Config, read_config

COMPLETE = {"model": {"encoder": "a", "decoder": "b"}, "data": {"train": "t"}, "training": {"output_dir": "o"}}


def test_yaml_and_assignments(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("training:\n  learning_rate: 1e-4\n  max_steps: 7\ndata:\n  columns: {text: sentence}\nmodel:\n")
    config = read_config(path, ["training.max_steps=9", "data.columns.audio=clip", "training.warmup_steps=1e2"])
    assert (config.training.learning_rate, config.training.max_steps, config.training.warmup_steps) == (1e-4, 9, 100)
    assert config.data.columns == {"text": "sentence", "audio": "clip"}
    assert Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainig: {}", 'no option `trainig`. Did you mean "training"'),
        ("training: {max_step: 3}", 'no option `training.max_step`. Did you mean "max_steps"'),
        ("training: {max_steps: many}", "`training.max_steps` must be a whole number, but is 'many'"),
        ("training: {max_steps: 1.5}", "must be a whole number"),
        ("training: {bf16: 1}", "`training.bf16` must be true or false"),
        ("training: {save_steps: 0}", "must be at least 1"),
        ("training: {label_smoothing_factor: 2}", "must be at most"),
        ("training: {learning_rate: .nan}", "must be a number"),
        ("training: [1]", "`training` must hold options"),
        ("model: {fusion: sideways}", "one of 'prefix', 'cross_attention' or none"),
        ("training:\n  seed: 1\n  seed: 2\n", "line 3: `seed` is set twice"),
        ("- 1", "must hold the parts"),
        ("a: [", "is not valid YAML"),
        ("a: !!python/object:os.system x", "is not valid YAML"),
        ("\xff", "is not UTF-8"),
    ],
)
def test_wrong_configurations(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="latin1")
    with pytest.raises(ConfigError) as error:
        read_config(path)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["max_steps=1", "training.=1", "training.max_steps", "=1", "training.seed={"])
def test_wrong_assignments(text):
    with pytest.raises(ConfigError, match="--set"):
        read_config(None, [text])


def test_a_missing_file():
    with pytest.raises(ModelNotFoundError):
        read_config("nowhere.yaml")


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("model", "encoder", None, "nothing to train"),
        ("model", "model_name_or_path", "m", "not both"),
        ("data", "train", None, "`data.train` is needed"),
        ("training", "output_dir", None, "`training.output_dir` is needed"),
        ("training", "lr_scheduler_type", "quadratic", "'inverse_sqrt'"),
        ("training", "early_stopping_patience", 2, "needs a validation set"),
        ("model", "unfreeze_encoder_step", 2, "needs `model.freeze_encoder`"),
        ("data", "noise_snr_db", [5.0], "two numbers"),
    ],
)
def test_contradictions(part, name, value, message):
    values = {key: dict(options) for key, options in COMPLETE.items()}
    Config.from_dict(values).check()
    values[part][name] = value
    with pytest.raises(ConfigError) as error:
        Config.from_dict(values).check()
    assert message in str(error.value)
