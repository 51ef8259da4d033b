"""The languages that Whisper knows, by code and by English name, and the other codes that decoders have for them."""

from collections.abc import Mapping

# In the order of their ids.
_LANGUAGES = """
en:english zh:chinese de:german es:spanish ru:russian ko:korean fr:french ja:japanese pt:portuguese tr:turkish pl:polish
ca:catalan nl:dutch ar:arabic sv:swedish it:italian id:indonesian hi:hindi fi:finnish vi:vietnamese he:hebrew
uk:ukrainian el:greek ms:malay cs:czech ro:romanian da:danish hu:hungarian ta:tamil no:norwegian th:thai ur:urdu
hr:croatian bg:bulgarian lt:lithuanian la:latin mi:maori ml:malayalam cy:welsh sk:slovak te:telugu fa:persian lv:latvian
bn:bengali sr:serbian az:azerbaijani sl:slovenian kn:kannada et:estonian mk:macedonian br:breton eu:basque is:icelandic
hy:armenian ne:nepali mn:mongolian bs:bosnian kk:kazakh sq:albanian sw:swahili gl:galician mr:marathi pa:punjabi
si:sinhala km:khmer sn:shona yo:yoruba so:somali af:afrikaans oc:occitan ka:georgian be:belarusian tg:tajik sd:sindhi
gu:gujarati am:amharic yi:yiddish lo:lao uz:uzbek fo:faroese ht:haitian_creole ps:pashto tk:turkmen nn:nynorsk
mt:maltese sa:sanskrit lb:luxembourgish my:myanmar bo:tibetan tl:tagalog mg:malagasy as:assamese tt:tatar haw:hawaiian
ln:lingala ha:hausa ba:bashkir jw:javanese su:sundanese yue:cantonese
"""
LANGUAGES = {code: name.replace("_", " ") for code, name in (pair.split(":") for pair in _LANGUAGES.split())}
LANGUAGE_CODES = {name: code for code, name in LANGUAGES.items()} | {
    "burmese": "my", "castilian": "es", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb", "mandarin": "zh",
    "moldavian": "ro", "moldovan": "ro", "panjabi": "pa", "pushto": "ps", "sinhalese": "si", "valencian": "ca",
}  # fmt: skip

# Codes of three letters in NLLB, of the variety that a plain code means; M2M-100 writes jv for jw.
_OTHERS = """
en:eng zh:zho de:deu es:spa ru:rus ko:kor fr:fra ja:jpn pt:por tr:tur pl:pol ca:cat nl:nld ar:arb sv:swe it:ita id:ind
hi:hin fi:fin vi:vie he:heb uk:ukr el:ell ms:zsm cs:ces ro:ron da:dan hu:hun ta:tam no:nob th:tha ur:urd hr:hrv bg:bul
lt:lit mi:mri ml:mal cy:cym sk:slk te:tel fa:pes lv:lvs bn:ben sr:srp az:azj sl:slv kn:kan et:est mk:mkd eu:eus is:isl
hy:hye ne:npi mn:khk bs:bos kk:kaz sq:als sw:swh gl:glg mr:mar pa:pan si:sin km:khm sn:sna yo:yor so:som af:afr oc:oci
ka:kat be:bel tg:tgk sd:snd gu:guj am:amh yi:ydd lo:lao uz:uzn fo:fao ht:hat ps:pbt tk:tuk nn:nno mt:mlt sa:san lb:ltz
my:mya bo:bod tl:tgl mg:plt as:asm tt:tat ln:lin ha:hau ba:bak jw:jav,jv su:sun eo:epo ga:gle gd:gla ig:ibo ky:kir
lg:lug or:ory ss:ssw tn:tsn ug:uig wo:wol xh:xho zu:zul
"""
OTHER_CODES = {code: others.split(",") for code, others in (pair.split(":") for pair in _OTHERS.split())}


def language_code(name: str) -> str:
    """Return the code of a language by its English name in any case; any other word in lower case."""
    return LANGUAGE_CODES.get(name.lower(), name.lower())


def find_language(wanted: str, known: Mapping[str, int]) -> int | None:
    """Look up the token of a language.

    Args:
        wanted: Its token (`<|de|>`), code (`de`, `de_DE`, `deu_Latn`) or English name, in any case.
        known: Token id by code or token. Of several that begin alike (`zho_Hans`, `zho_Hant`), the first counts.

    Returns:
        The id; `None` if it is not among them.
    """
    exact = {name.lower().strip("<|>"): number for name, number in known.items()}
    short = {name.partition("_")[0]: number for name, number in reversed(exact.items())}
    wanted = wanted.lower().strip("<|>").replace("-", "_")
    code = language_code(wanted)
    candidates = (exact.get(wanted), exact.get(code), *(short.get(one) for one in (code, *OTHER_CODES.get(code, ()))))
    return next((number for number in candidates if number is not None), None)
