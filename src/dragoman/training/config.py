"""The configuration of a training run: model, data, training, evaluation.

Options that `TrainingArguments` of `transformers` has too have its names.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from typing import Any, Literal

from dragoman.errors import ConfigError, did_you_mean
from dragoman.training.options import Part, option
from dragoman.training.schedules import SCHEDULES

PARTS = ("model", "data", "training", "evaluation")
TRACKER_NAMES = ("tensorboard", "wandb", "mlflow", "trackio")


@dataclass(kw_only=True)
class ModelOptions(Part):
    """What is trained."""

    model_name_or_path: str | None = option(None, "Folder or hub id of a whole model to train further.")
    encoder: str | None = option(None, "Folder or hub id of a speech encoder, to join with `decoder`.")
    decoder: str | None = option(None, "Folder or hub id of a text model.")
    backend: Literal["torch", "jax"] = option(
        "torch", "The framework. JAX has one process and lacks some options, which are then errors."
    )
    fusion: Literal["prefix", "cross_attention"] | None = option(
        None, "How a text model without cross-attention takes the speech."
    )
    fields: dict[str, Any] = option(
        {}, "Fields of the configuration to change, those of the parts with `encoder_` and `decoder_` before them."
    )
    revision: str | None = option(None, "Branch, tag or commit of `model_name_or_path` on the hub.")
    cache_dir: str | None = option(None, "Where to keep models downloaded from the hub.")
    local_files_only: bool = option(False, "Never contact the hub.")
    teacher: str | None = option(
        None, "Folder or hub id of a larger model with the same tokens and features, to learn its predictions too."
    )
    freeze_feature_encoder: bool = option(False, "Do not train the convolutions of the encoder's front end.")
    freeze_encoder: bool = option(False, "Do not train the encoder, or not before `unfreeze_encoder_step`.")
    freeze_decoder: bool = option(
        False, "Train of the text model only what is new (cross-attention), or all from `unfreeze_decoder_step` on."
    )
    unfreeze_encoder_step: int | None = option(None, "Step from which on a frozen encoder is trained.", low=0)
    unfreeze_decoder_step: int | None = option(None, "Step from which on a frozen decoder is trained.", low=0)
    lora_rank: int = option(0, "Rank of LoRA on the text model, which is then frozen; 0 for none.", low=0)
    lora_alpha: float = option(16.0, "The product of LoRA's matrices is scaled by `lora_alpha / lora_rank`.", low=0)
    lora_dropout: float = option(0.0, "Dropout before LoRA.", low=0, high=1)
    lora_targets: list[str] = option(["q_proj", "v_proj"], "Last words of the names of LoRA's layers.")

    def source(self) -> dict[str, Any]:
        """Return where to look for files, as arguments of `from_pretrained`."""
        found = {"revision": self.revision, "cache_dir": self.cache_dir, "local_files_only": self.local_files_only}
        return {name: value for name, value in found.items() if value}


@dataclass(kw_only=True)
class DataOptions(Part):
    """What it is trained on."""

    train: str | list[str] | None = option(None, "Manifest or folder of the training set, or a list of several.")
    train_weights: list[float] | None = option(
        None, "Relative frequency of the items of several sets; by default every item comes once an epoch.", low=0
    )
    valid: str | None = option(None, "Manifest or folder of the validation set, which chooses the best model.")
    valid_share: float = option(
        0.0, "Share of `train` to validate on instead of `valid`, such as 0.05.", low=0, high=0.9
    )
    split_by: Literal["text", "speaker", "id"] = option(
        "text", "What training and validation set never share, if the latter is a share."
    )
    columns: dict[str, Any] = option({}, "Names of columns where they are not the usual ones: `{text: sentence}`.")
    train_split: str | None = option(None, "Split of `train` to use.")
    valid_split: str | None = option(None, "Split of `valid` to use.")
    min_duration_in_seconds: float = option(0.0, "Leave out shorter items.", low=0)
    max_duration_in_seconds: float = option(30.0, "Leave out longer items.", low=0)
    min_rate: float | None = option(None, "Leave out items with fewer characters a second.", low=0)
    max_rate: float | None = option(None, "Leave out items with more characters a second.", low=0)
    seconds_per_batch: float = option(80.0, "Most seconds of audio in a batch, padding included.", low=0)
    num_buckets: int | None = option(
        None, "Ranges of durations from which batches are taken; by default up to 20, each of 8 batches or more.", low=1
    )
    speed_perturbation: list[float] = option(
        [1.0], "Factors of speed, one drawn for each item and epoch: `[0.9, 1.0, 1.1]`.", low=0.5, high=2
    )
    noise_probability: float = option(0.0, "Share of the items that noise is added to.", low=0, high=1)
    noise_snr_db: list[float] = option([10.0, 30.0], "Lowest and highest ratio of speech to noise, in decibels.")


@dataclass(kw_only=True)
class TrainingOptions(Part):
    """How it is trained."""

    output_dir: str | None = option(None, "Folder for checkpoints, log and models.")
    num_train_epochs: float = option(3.0, "Number of epochs, if `max_steps` is not set.", low=0)
    max_steps: int = option(-1, "Number of optimizer steps; -1 follows `num_train_epochs`.", low=-1)
    per_device_train_batch_size: int | None = option(
        None, "Most items in a batch, beside the limit of `data.seconds_per_batch`.", low=1
    )
    gradient_accumulation_steps: int = option(1, "Batches of one optimizer step.", low=1)
    learning_rate: float = option(1e-4, "Highest learning rate.", low=0)
    encoder_learning_rate: float | None = option(None, "The same for the pretrained encoder.", low=0)
    decoder_learning_rate: float | None = option(None, "The same for the pretrained text model.", low=0)
    layerwise_lr_decay: float = option(
        1.0, "Factor from each layer to the one below it, in encoder and decoder.", low=0, high=1
    )
    lr_scheduler_type: str = option("linear", f"Schedule after the warm-up: {', '.join(f'`{n}`' for n in SCHEDULES)}.")
    warmup_steps: float = option(0, "Steps of linear warm-up; below 1, a share of all steps.", low=0)
    warmup_ratio: float = option(0.1, "Share of all steps, if `warmup_steps` is 0.", low=0, high=1)
    weight_decay: float = option(0.01, "AdamW's weight decay; not for norms and biases.", low=0)
    adam_beta1: float = option(0.9, "AdamW's first coefficient.", low=0, high=1)
    adam_beta2: float = option(0.999, "AdamW's second coefficient.", low=0, high=1)
    adam_epsilon: float = option(1e-8, "AdamW's epsilon.", low=0)
    max_grad_norm: float = option(1.0, "Clip the norm of the gradients; 0 does not.", low=0)
    label_smoothing_factor: float = option(0.0, "Share of the target spread over the vocabulary.", low=0, high=0.999)
    ctc_weight: float = option(
        0.0, "Share of the loss that is CTC on the encoder's frames, through a head of its own.", low=0, high=0.999
    )
    align_steps: int = option(
        0, "First train only the projection to the decoder for N of all steps, by CTC against its embeddings.", low=0
    )
    align_learning_rate: float = option(1e-3, "Their learning rate.", low=0)
    cache_encoder_states: Literal["float32", "float16"] | None = option(
        None, "Keep the states of a frozen encoder on disk in this type, so that each clip is encoded once."
    )
    encoder_states_dir: str | None = option(
        None, "Folder for them, which runs may share; by default `encoder_states` in `output_dir`."
    )
    encoder_states_gigabytes: float = option(20.0, "Size that the folder does not exceed.", low=0)
    distillation_weight: float = option(
        0.5, "Share of the decoder's loss that is the divergence from `model.teacher`.", low=0, high=1
    )
    distillation_temperature: float = option(2.0, "By which the logits of both are divided for it.", low=0.01)
    bf16: bool = option(False, "Compute in bfloat16; weights and optimizer stay in float32.")
    fp16: bool = option(False, "Compute in float16 with a scaled loss, for GPUs without bfloat16.")
    fsdp: Literal["shard_grad_op"] | None = option(
        None, "Share out gradients, optimizer and, between steps, weights over the processes of `torchrun` (FSDP2)."
    )
    gradient_checkpointing: bool = option(False, "Recompute activations: less memory, a third more time.")
    ema_decay: float = option(
        0.0, "Keep a moving average of the weights, as in 0.999, to evaluate and save.", low=0, high=0.999999
    )
    seed: int = option(42, "Of new weights, order, dropout and augmentation.", low=0)
    logging_steps: int = option(1, "Steps between lines of `log.jsonl`.", low=1)
    report_to: list[str] = option([], "Trackers that get all figures: `tensorboard`, `wandb`, `mlflow`, `trackio`.")
    save_steps: int = option(500, "Steps between checkpoints.", low=1)
    save_total_limit: int = option(2, "Number of checkpoints to keep.", low=1)
    eval_steps: int | None = option(None, "Steps between evaluations; as `save_steps` by default.", low=1)
    early_stopping_patience: int | None = option(None, "Stop after N evaluations without a better one.", low=1)
    early_stopping_threshold: float = option(0.0, "How much better it must be.", low=0)
    divergence_factor: float = option(
        3.0, "Stop if the loss rises to N times its lowest, and above its first, value; 0 never stops.", low=0
    )
    max_skipped_steps: int = option(10, "Stop after N steps in a row with NaN or infinite gradients.", low=1)
    dataloader_num_workers: int = option(2, "Threads that prepare batches; the number changes no result.", low=0)
    use_cpu: bool = option(False, "Use the CPU even if there is a GPU.")


@dataclass(kw_only=True)
class EvaluationOptions(Part):
    """How it is evaluated during training."""

    predict_with_generate: bool = option(True, "Also transcribe the validation set, for WER and CER.")
    max_eval_samples: int | None = option(None, "Use only the first N items.", low=1)
    seconds_per_batch: float | None = option(None, "As in `data`, for evaluation; by default the same.", low=0)
    metric_for_best_model: Literal["loss", "wer", "cer"] | None = option(
        None, "What chooses the best model; `wer` if transcripts are made, otherwise `loss`."
    )
    generation_max_length: int | None = option(
        None, "Most tokens of a transcript; by default twice the longest reference and 10.", low=1
    )
    generation_num_beams: int = option(1, "Number of beams.", low=1)
    normalizer: Literal["basic", "english", "none"] = option("basic", "How texts are normalised before WER and CER.")


@dataclass(kw_only=True)
class Config:
    """The configuration of a training run.

    Raises:
        ConfigError: If parts contradict each other.

    Example:
        >>> config = Config.from_dict({"model": {"encoder": "a", "decoder": "b"}, "data": {"train": "train.tsv"}})
    """

    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Return the configuration of nested mappings; unknown names are errors."""
        part_types = (ModelOptions, DataOptions, TrainingOptions, EvaluationOptions)
        from_parts: dict[str, type[Part]] = dict(zip(PARTS, part_types, strict=True))
        check_names("", values, from_parts)
        parts: dict[str, Any] = {}
        for name, part in from_parts.items():
            given = values.get(name) or {}
            if not isinstance(given, Mapping):
                raise ConfigError(f"`{name}` must hold options, but is {given!r:.80}.")
            check_names(f"{name}.", given, {one.name: one for one in dataclass_fields(part)})
            parts[name] = part(**given)
        return cls(**parts)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return nested dictionaries, as `from_dict` takes them."""
        return asdict(self)

    def check(self) -> None:
        """Refuse what no run can be made of.

        Raises:
            ConfigError: If something is missing, or options contradict each other.
        """
        model, training = self.model, self.training
        if model.model_name_or_path is None and (model.encoder is None or model.decoder is None):
            raise ConfigError(
                "There is nothing to train: give `model.encoder` and `model.decoder`, or `model.model_name_or_path`."
            )
        if model.model_name_or_path is not None and (model.encoder or model.decoder):
            raise ConfigError("Give `model.encoder` and `model.decoder`, or `model.model_name_or_path`, not both.")
        for name, value in {"data.train": self.data.train, "training.output_dir": training.output_dir}.items():
            if not value:
                raise ConfigError(f"`{name}` is needed, but not set.")
        if training.lr_scheduler_type not in SCHEDULES:
            raise ConfigError(
                f"`training.lr_scheduler_type` must be one of {', '.join(map(repr, SCHEDULES))}, "
                f"but is {training.lr_scheduler_type!r}."
            )
        unknown = [name for name in training.report_to if name not in TRACKER_NAMES]
        if unknown:
            raise ConfigError(
                f"`training.report_to` has {unknown[0]!r}.{did_you_mean(unknown[0], TRACKER_NAMES)} Trackers: "
                f"{', '.join(TRACKER_NAMES)}."
            )
        if len(self.data.noise_snr_db) != 2 or self.data.noise_snr_db[0] > self.data.noise_snr_db[1]:
            raise ConfigError(f"`data.noise_snr_db` must be two numbers, the lower first: {self.data.noise_snr_db}.")
        if self.data.valid is not None and self.data.valid_share:
            raise ConfigError("Give `data.valid` or `data.valid_share`, not both.")
        if self.data.valid is None and not self.data.valid_share:
            if training.early_stopping_patience is not None:
                raise ConfigError(
                    "`training.early_stopping_patience` needs a validation set: `data.valid` or `data.valid_share`."
                )
        elif self.evaluation.metric_for_best_model in ("wer", "cer") and not self.evaluation.predict_with_generate:
            raise ConfigError(
                f"`evaluation.metric_for_best_model` {self.evaluation.metric_for_best_model!r} needs "
                "`evaluation.predict_with_generate`."
            )
        self._check_steps()
        for part in ("encoder", "decoder"):
            frozen, step = getattr(model, f"freeze_{part}"), getattr(model, f"unfreeze_{part}_step")
            if step is not None and not frozen:
                raise ConfigError(f"`model.unfreeze_{part}_step` needs `model.freeze_{part}`.")

    def _check_steps(self) -> None:
        training = self.training
        if training.bf16 and training.fp16:
            raise ConfigError("`training.bf16` and `training.fp16` exclude each other. Leave one out.")
        if training.align_steps and 0 < training.max_steps <= training.align_steps:
            raise ConfigError(
                f"`training.align_steps`, {training.align_steps}, must be fewer than all steps, "
                f"`training.max_steps`, {training.max_steps}."
            )
        if training.cache_encoder_states is None:
            return
        if not self.model.freeze_encoder or self.model.unfreeze_encoder_step is not None:
            raise ConfigError(
                "`training.cache_encoder_states` is for an encoder that stays frozen: set `model.freeze_encoder`, and "
                "leave out `model.unfreeze_encoder_step`."
            )
        changing = {
            "data.noise_probability": self.data.noise_probability,
            "training.ctc_weight": training.ctc_weight,
            "model.teacher": self.model.teacher,
        }
        wrong = [name for name, value in changing.items() if value]
        if wrong:
            raise ConfigError(
                f"`{wrong[0]}` and `training.cache_encoder_states` exclude each other: noise is new in every epoch, "
                "CTC beside the decoder trains the encoder, and a teacher needs the audio. Leave one out."
            )


def check_names(prefix: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse unknown names.

    Raises:
        ConfigError: With the nearest name that exists.
    """
    for name in given:
        if name not in known:
            raise ConfigError(
                f"There is no option `{prefix}{name}`.{did_you_mean(str(name), known)} "
                f"{'Parts' if not prefix else 'Options'}: {', '.join(known)}."
            )
