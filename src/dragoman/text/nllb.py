"""The tokenizers of NLLB-200 and M2M-100: SentencePiece, with a language token before the text.

Some files and fine-tunes of NLLB have it after the text instead (`legacy_behaviour`).
"""

import re
from typing import Any

from dragoman.text.mbart import MBartTokenizer
from dragoman.text.settings import flag
from dragoman.text.speech2text import NumberedTokenizer

# In the order of their ids, after those of the pieces.
_NLLB = """
ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn amh_Ethi apc_Arab arb_Arab ars_Arab ary_Arab
arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl bem_Latn ben_Beng
bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn cjk_Latn ckb_Arab crh_Latn
cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn est_Latn eus_Latn ewe_Latn fao_Latn
pes_Arab fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn gla_Latn gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn
hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn
jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab kas_Deva kat_Geor knc_Arab knc_Latn kaz_Cyrl kbp_Latn kea_Latn
khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn kon_Latn kor_Hang kmr_Latn lao_Laoo lvs_Latn lij_Latn lim_Latn lin_Latn
lit_Latn lmo_Latn ltg_Latn ltz_Latn lua_Latn lug_Latn luo_Latn lus_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Latn
mkd_Cyrl plt_Latn mlt_Latn mni_Beng khk_Cyrl mos_Latn mri_Latn zsm_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva
nso_Latn nus_Latn nya_Latn oci_Latn gaz_Latn ory_Orya pag_Latn pan_Guru pap_Latn pol_Latn por_Latn prs_Arab pbt_Arab
quy_Latn ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Beng scn_Latn shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn
sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn szl_Latn
tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi taq_Latn taq_Tfng tpi_Latn tsn_Latn tso_Latn tuk_Latn
tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn vie_Latn war_Latn wol_Latn
xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zul_Latn
"""
_M2M100 = """
af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu hy id ig
ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl
so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu
"""
NLLB_LANGUAGES = tuple(_NLLB.split())
# By the value of `language_codes` in tokenizer_config.json.
M2M100_LANGUAGES = {"m2m100": tuple(_M2M100.split()), "wmt21": ("en", "ha", "is", "ja", "cs", "ru", "zh", "de")}

_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


class NllbTokenizer(MBartTokenizer):
    """NLLB-200: `fra_Latn text </s>`, or `text </s> fra_Latn` with `legacy_behaviour`.

    Tokens of this form that a fine-tune adds are languages too.
    """

    default_language = "eng_Latn"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.language_first = not flag(self.init_kwargs, "legacy_behaviour")

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages."""
        return tuple(dict.fromkeys((*NLLB_LANGUAGES, *filter(_CODE.fullmatch, self.get_added_vocab()))))


class M2M100Tokenizer(NumberedTokenizer, MBartTokenizer):
    """M2M-100: `__fr__ text </s>`; the code of this language is `fr`."""

    default_language = "en"
    language_first = True
    after_special = ""

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages."""
        return M2M100_LANGUAGES[self.init_kwargs.get("language_codes") or "m2m100"]

    def get_lang_token(self, lang: str) -> str:
        """Return the token of a language's code."""
        return f"__{lang}__"

    def get_lang_id(self, lang: str) -> int:
        """Return the id of a language's token, for `forced_bos_token_id`.

        Raises:
            TokenizerError: If the tokenizer does not know the language.
        """
        self._language(lang, "lang")
        return self.lang_code_to_id[lang]
