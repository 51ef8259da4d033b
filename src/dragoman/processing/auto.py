"""`AutoTokenizer`, `AutoFeatureExtractor`, `AutoProcessor`: they choose the class from the files of a model."""

import os
from typing import Any

from dragoman.audio.features.extractor import FeatureExtractor
from dragoman.checkpoint.folder import read_model_config
from dragoman.families import FAMILIES
from dragoman.hub import local_folder
from dragoman.processing.from_files import processor_class, read_feature_extractor, read_tokenizer
from dragoman.processing.processor import PROCESSORS, SpeechProcessor, processor_of
from dragoman.text.tokenizer import Tokenizer

# The processor that the tokenizer of a family without a speech encoder implies.
_OF_TOKENIZER = {
    family.tokenizer: PROCESSORS[family.processor] for family in FAMILIES if family.processor and not family.speech
}
# The processor of a model of both parts, whose feature extractor may be that of other families too.
_OF_WHOLE = {
    family.model_type: PROCESSORS[family.processor] for family in FAMILIES if family.processor and family.whole
}


class AutoTokenizer:
    """Reads the tokenizer of any model."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Tokenizer:
        """Read a tokenizer from a folder or the hub.

        Its class is the first one found in `tokenizer_type`, tokenizer_config.json, config.json, the model type (of an
        encoder-decoder, first the decoder's), and the names of the files.

        Args:
            pretrained_model_name_or_path: A local folder, or a hub id such as "google-bert/bert-base-uncased".
            kwargs: Where to find it: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`,
                `subfolder`. Its kind: `tokenizer_type`, a class name or model type. Settings in place of those in the
                files: special tokens (`pad_token=…`), `model_max_length`, `padding_side`, `do_lower_case`,
                `add_prefix_space`, `src_lang` and `tgt_lang` (mBART), `language` and `task` (Whisper), `target_lang`
                (MMS), …

        Raises:
            ModelNotFoundError: If there is no tokenizer; the message lists the files to provide.
            TokenizerError: If a file is corrupt or a setting unknown.
        """
        return read_tokenizer(*local_folder(pretrained_model_name_or_path, kwargs))


class AutoFeatureExtractor:
    """Reads the feature extractor of any speech model."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> FeatureExtractor:
        """Read a feature extractor from a folder or the hub.

        Args:
            pretrained_model_name_or_path: A local folder, or a hub id such as "facebook/wav2vec2-base-960h".
            kwargs: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`, `subfolder`; fields in
                place of those in the file.

        Raises:
            ModelNotFoundError: If there is none; the message lists the files to provide.
            ConfigError: If it is malformed, or of an unknown class.
        """
        return read_feature_extractor(*local_folder(pretrained_model_name_or_path, kwargs))


class AutoProcessor:
    """Reads the feature extractor and the tokenizer of any speech-to-text model."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> SpeechProcessor:
        """Read a processor from a folder or the hub, whether or not a file names its class.

        Args:
            pretrained_model_name_or_path: A local folder, or a hub id.
            kwargs: See `SpeechProcessor.from_pretrained`.

        Raises:
            ModelNotFoundError: If a file is missing; the message lists those to provide.
            ConfigError: If the feature extractor is malformed or unknown.
            TokenizerError: If the tokenizer is.
        """
        folder, options = local_folder(pretrained_model_name_or_path, kwargs)
        parts = SpeechProcessor.from_pretrained(folder, **options)
        whole = _OF_WHOLE.get(str(read_model_config(folder).get("model_type")))
        implied = whole or _OF_TOKENIZER.get(type(parts.tokenizer).__name__) or processor_of(parts.feature_extractor)
        named = PROCESSORS.get(str(processor_class(folder)), implied)
        return named(parts.feature_extractor, parts.tokenizer)
