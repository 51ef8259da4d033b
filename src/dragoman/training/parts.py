"""What a run consists of, by its configuration: processes, model, learner."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dragoman._lazy import require
from dragoman.errors import ConfigError
from dragoman.model.encoder_states import StateOptions
from dragoman.model.learning import Alignment, Distillation, Freezing, LearnerOptions, Rates
from dragoman.training.config import Config, TrainingOptions
from dragoman.training.learning import Learner
from dragoman.training.start import join, load


def processes_of(config: Config) -> Any:
    """Return the processes of the run.

    Raises:
        ConfigError: If several processes train with JAX.
    """
    if config.model.backend == "torch":
        return require("dragoman.torch.processes", "Training").Processes(use_cpu=config.training.use_cpu)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("`model.backend: jax` trains in one process. Start `dragoman train` without torchrun.")
    for name, value in {
        "training.gradient_checkpointing": config.training.gradient_checkpointing,
        "model.teacher": config.model.teacher,
    }.items():
        if value:
            raise ConfigError(f"`{name}` needs `model.backend: torch`.")
    return require("dragoman.jax.processes", "Training").Processes(use_cpu=config.training.use_cpu)


def model_of(config: Config, before: Path | None, processes: Any) -> tuple[Any, Any]:
    """Return model and processor: joined, loaded, or with the parts of the model of the run that is continued.

    Args:
        config: The configuration.
        before: Folder of that model; its weights are replaced later.
        processes: On whose device the model is to be.
    """
    options = config.model
    if before is not None:
        model, processor = load(before, backend=options.backend)
    elif options.model_name_or_path is not None:
        model, processor = load(
            options.model_name_or_path, backend=options.backend, source=options.source(), fields=options.fields
        )
    else:
        fields = {**options.fields, **({"fusion": options.fusion} if options.fusion else {})}
        assert options.encoder is not None
        assert options.decoder is not None
        source = {name: value for name, value in options.source().items() if name != "revision"}
        model, processor = join(
            options.encoder,
            options.decoder,
            seed=config.training.seed,
            backend=options.backend,
            source=source,
            fields=fields,
        )
    if options.lora_rank:
        if options.backend == "torch":
            require("torch", "LoRA").manual_seed(config.training.seed)
        model.add_lora(options.lora_rank, options.lora_alpha, options.lora_targets, dropout=options.lora_dropout)
    if config.training.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if options.backend == "torch":
        model.to(processes.device)
    return model, processor


def learner_of(config: Config, model: Any, processor: Any, processes: Any, tokens: Sequence[int]) -> Learner:
    """Return what takes the steps.

    Args:
        config: The configuration.
        model: The model.
        processor: Its tokenizer and feature extractor.
        processes: All processes.
        tokens: All tokens of the training texts.
    """
    learning = require(f"dragoman.{config.model.backend}.learner", "Training")
    options, model_options = config.training, config.model
    rates = Rates(
        new=options.learning_rate,
        encoder=options.learning_rate if options.encoder_learning_rate is None else options.encoder_learning_rate,
        decoder=options.learning_rate if options.decoder_learning_rate is None else options.decoder_learning_rate,
        layer_decay=options.layerwise_lr_decay,
        weight_decay=options.weight_decay,
    )
    freezing = Freezing(
        feature_encoder=model_options.freeze_feature_encoder,
        encoder=model_options.freeze_encoder,
        decoder=model_options.freeze_decoder or model_options.lora_rank > 0,
        encoder_until=model_options.unfreeze_encoder_step,
        decoder_until=model_options.unfreeze_decoder_step,
    )
    if not options.ctc_weight and not (freezing.encoder and freezing.encoder_until is None):
        model.ctc_scoring_head = None  # the encoder moves away from it
    learner: Learner = learning.Learner(
        model,
        LearnerOptions(
            rates=rates,
            freezing=freezing,
            betas=(options.adam_beta1, options.adam_beta2),
            epsilon=options.adam_epsilon,
            max_grad_norm=options.max_grad_norm,
            label_smoothing=options.label_smoothing_factor,
            ctc_weight=options.ctc_weight,
            fsdp=options.fsdp is not None,
            bf16=options.bf16,
            fp16=options.fp16,
            ema_decay=options.ema_decay,
            seed=options.seed,
            alignment=Alignment(steps=options.align_steps, rate=options.align_learning_rate, tokens=tokens),
            states=_states_of(options),
            distillation=_distillation_of(config, processor, processes),
        ),
        processes,
    )
    return learner


def _distillation_of(config: Config, processor: Any, processes: Any) -> Distillation | None:
    """Return the teacher, frozen.

    Raises:
        ConfigError: If it has other tokens or features than the model that learns.
    """
    options = config.training
    if config.model.teacher is None:
        return None
    source = {name: value for name, value in config.model.source().items() if name != "revision"}
    teacher, its = load(config.model.teacher, source=source)
    if its.tokenizer.get_vocab() != processor.tokenizer.get_vocab():
        raise ConfigError(
            f"`model.teacher`, {config.model.teacher}, has another vocabulary than the model that learns. A teacher "
            "predicts the same tokens: choose one with the same tokenizer, or train on the texts that it transcribes."
        )
    ours, theirs = (one.feature_extractor.to_dict() for one in (processor, its))
    if ours != theirs:
        wrong = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        raise ConfigError(
            f"`model.teacher`, {config.model.teacher}, takes other features than the model that learns "
            f"({', '.join(wrong)} of preprocessor_config.json). Choose a teacher that takes the same."
        )
    return Distillation(
        teacher=teacher.to(processes.device).requires_grad_(False).eval(),
        weight=options.distillation_weight,
        temperature=options.distillation_temperature,
    )


def _states_of(options: TrainingOptions) -> StateOptions | None:
    if options.cache_encoder_states is None:
        return None
    return StateOptions(
        folder=Path(options.encoder_states_dir or Path(str(options.output_dir)) / "encoder_states"),
        dtype=options.cache_encoder_states,
        max_bytes=int(options.encoder_states_gigabytes * 1e9),
    )
