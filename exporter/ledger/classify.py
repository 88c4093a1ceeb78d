"""``fail_msg`` -> class, and ``fail_msg`` -> template. Pure: text in, text out.

Knows what the failure messages of speech synthesis look like and how rules are tried; must not know
where rules or messages come from. Nothing public shows a real ``fail_msg``, so the built-in rules are
written for the documented codes and for the wording of neighbouring services, in both languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import re2

from exporter.ledger.model import NO_MESSAGE, UNCLASSIFIED

Rule = tuple[str, str]
"""(class, RE2 pattern searched anywhere in the message)"""

MESSAGE_LIMIT: Final = 4096
TEMPLATE_LIMIT: Final = 200
_REMEMBERED: Final = 1024
"""How many texts' classes are remembered: services repeat themselves, and a look-up is 0.1 us."""
_REMEMBERED_LENGTH: Final = 512
"""Longer texts are not kept: they rarely repeat, and memory stays below a megabyte."""


def _rule(name: str, *alternatives: str) -> Rule:
    return name, "(?is)" + "|".join(alternatives)


def _codes(name: str, *codes: str) -> Rule:
    return name, rf"(?i)\b0?({'|'.join(codes)})\b"


# A code says more than the words around it, so the codes come first. They are written with eight or
# nine digits (MSS.20050053, MSS.020050053); the boundaries keep them from matching inside a longer id.
_BY_CODE: Final = (
    _codes("sensitive_content", "10010012"),
    _codes("text_too_long", "20051001"),
    _codes(
        "voice_asset",
        "20050042",
        "20050029",
        "20050038",
        "10001001",
        "20010044",
        "20010131",
        "20010140",
        "20010071",
    ),  # fmt: skip
    _codes("text_unsupported", "20050040", "20050064"),
    _codes("billing_quota", "20050039", "20050053", "47010126"),
    _codes("throttled", r"APIGW?\.0308", "47010004", "47010150", "20010035", "20010056"),
    _codes("auth", "20050023"),
    _codes("internal", "47000029", "42000007"),
)

# Phrases whose meaning would be lost to a broader rule below: "context deadline exceeded" is not about
# text, "concurrency quota exceeded" not about money, "voice service unavailable" not about the voice.
_BY_PHRASE: Final = (
    _rule("timeout", r"deadline.{0,8}exceed", r"exceed.{0,12}deadline"),
    _rule(
        "throttled",
        r"(concurren(t|cy)|\bqps\b|\btps\b|\brate\b|queue|并发|队列|排队).{0,16}(quota|limit|exceed|full|配额|上限|限制|超过|超出|已满)",
        r"(exceed|超过|超出).{0,12}(concurren|\bqps\b|\btps\b|queue|并发|队列|排队)",
        r"(token|leaky).bucket|令牌桶",
    ),
    _rule(
        "internal",
        r"service( is)?( temporarily| currently)? (unavailable|not available)",
        r"服务(暂时|暂|当前)?(不可用|异常|繁忙)",
        r"too many open files",
    ),
)

_LENGTH_FILLER: Final = (
    r"([\s\d:=,'\"()\[\]._-]|length|size|content|count|number|input|is|are|was|has|of|the|to|be|must|should|can|may|not"
    r"|cannot|that|which|far|much|chars?|characters?)*"
)

_BY_WORDS: Final = (
    _rule(
        "sensitive_content",
        r"敏感|违规|违禁|违法|涉政|涉黄|涉恐|涉暴|色情|内容安全|审核.{0,4}(不|未)通过|审核(失败|拒绝|驳回)",
        r"sensitive.?(word|content|text|info|material|phrase|term|topic)|(contain|includ|politic|detect)\w*\s+sensitive",
        r"moderation|inappropriate|(illegal|prohibited|forbidden) (content|text|word)|\bcontent [^-]{0,20}(violat|reject|block)",
        r"(content|text|words?)\b.{0,16}\bprohibited",
    ),
    _rule(
        "text_too_long",
        rf"\b(text|characters?|length|words?|sentence)\b{_LENGTH_FILLER}(too.?long|exceed|over.?(limit|length|size))",
        r"too?.long.{0,4}(word|text|sentence)|too many (characters|words)",
        r"exceed(s|ed|ing)?( the)?( max(imum)?| allowed| permitted| limit of| number of|\s\d+)*\s(text|characters?|length|words?)\b",
        r"(文本|文字|内容|字数|字符数?|长度|句子|单词)(的|总|长度|字数|字符数?|数量?|大小|内容|输入|为|是|已|不能|不得|不可|不应|[\d\s:：,，()（）])*(过长|超长|太长|超限|超过|超出)",
        r"(过长|超长|太长)的?(文本|文字|句子|单词)|(超过|超出)[^,，。;；]{0,12}(字数|字符|文本长度|长度限制|长度上限|个?字)",
    ),
    _rule(
        "voice_asset",
        r"access config",
        r"(音色|声音|发音人|角色|资产|\b(voice|timbre|asset|speaker)).{0,32}(不存在|未找到|找不到|未激活|未授权|无权限|不可用|已?冻结|过期|删除|下线|not (exist|found|activ|authori[sz]ed|avail?able)|doesn't exist|unactivated|inactive|unauthori[sz]ed|frozen|deleted)",
        r"\b(voice|timbre|asset|speaker)[^,.;:]{0,16}(unavailable|expired|invalid)",
        r"(no such|unknown|invalid|missing) (voice|timbre|asset|speaker)",
        r"(不存在|未找到|找不到|无效)的?(该|此|指定)?的?(音色|发音人|资产)",
    ),
    _rule(
        "text_unsupported",
        r"ssml|\btext is invalid|invalid text|no valid text|(empty|blank) text|\btext\b.{0,12}\b(empty|blank|null)\b",
        r"(unsupported|not support(ed)?).{0,24}\b(language|characters?|text|tags?|phonemes?)\b",
        r"\b(language|character|tag)s?\b.{0,24}(unsupported|not support)",
        r"文本.{0,6}(为空|无效|非法|不支持)|不支持.{0,10}(语言|语种|字符|文本|标签|播报)|非法字符|特殊字符",
        r"(语言|语种|字符|标签).{0,6}不支持|(语言|语种|字符|标签|文本)(内容|格式|类型|编码)?错误",
    ),
    _rule(
        "billing_quota",
        r"insufficient.{0,24}\b(balance|quota|funds?)|\b(balance|quota|package)\b.{0,24}(insufficient|not enough|exhaust|used up|exceed)",
        r"exceed.{0,16}\bquota|no (remaining )?quota|arrears|(payment|bill|account)\w*.{0,16}overdue|overdue.{0,8}(payment|bill|account)",
        r"(resource|account).{0,16}\brestricted|account.{0,16}(frozen|suspended)",
        r"欠费|余额不足|(没有|无|缺少)额度|额度(不足|用完|已用)|配额|套餐.{0,8}(用完|用尽|不足|过期)|未(开通|启用|开启).{0,6}(按需|计费|服务)|(按需|计费|服务)未(开通|启用|开启)",
    ),
    _rule(
        "throttled",
        r"(http|status|code|error|状态码|错误码)[^0-9]{0,8}429\b|^\s*429\b|\b429 too\b",
        r"throttl|too many (request|concurrent|connection|job|task|call|session)|too (frequent|often)|\brate.?limit|flow.?(limit|control)",
        r"\bconcurrency\b|concurrent (request|job|task|call|session|connection)|流控|限流|频繁|并发(数|量|路|任务|请求|资源|不足|过|已|达)",
        r"resources?.{0,16}(not enough|insufficient|exhaust)|(not enough|insufficient) resources?|资源(不足|已满|紧张)|排队",
    ),
    _rule(
        "storage",
        r"\bobs\b|bucket|output_external_url|存储|桶",
        r"\b(upload|download|stor(e|ing)|sav(e|ing)|put(.?object)?)\b.{0,24}(fail|error|denied|time.?out)",
        r"(fail|error)\w*\b.{0,24}\b(upload|download|store|save)",
        r"(上传|下载|保存).{0,8}(失败|错误|异常|超时)",
    ),
    _rule("timeout", r"timeout|\btime[ _-]out|timed.?out|deadline|expired waiting|超时|等待.{0,6}(过久|过长)"),
    _rule(
        "auth",
        r"\btoken\b.{0,8}\b(empty|expired|invalid)|invalid (auth\w* )?token|project.?id is not match|unauthori[sz]ed|forbidden|access denied",
        r"(authentication|authorization) fail|鉴权失败|认证失败|无权限|没有权限|令牌.{0,4}(过期|无效|失效)|签名.{0,4}(错误|失败|无效|过期)",
    ),
    _rule(
        "bad_request",
        r"MSS\.0{7,8}3\b|bad request|(invalid|illegal|missing|wrong)( required)? (param|argument)",
        r"\b(param|argument)\w*.{0,24}\b(invalid|illegal|missing|required|abnormal)",
        r"参数.{0,6}(错误|非法|无效|不合法|缺失|异常|为空|校验)",
    ),
    _rule(
        "disconnected",
        r"websocket.{0,24}(clos|disconnect|reset|broken)|\b(connection|link|client|socket|peer|stream)\b.{0,16}(closed|disconnect|reset|broken|lost)",
        r"broken pipe|断开|断连|断链",
    ),
    _rule(
        "internal",
        r"MSS\.0{7,8}[12]\b|internal|server error|infer(ence)?\b|\bmodel|\bengine|exception|null ?pointer|unknown error|looking for beginning of value",
        r"synthesi[sz].{0,16}(fail|error)|(fail|error)\w*\b.{0,16}synthesi[sz]|out of memory|\boom\b|\bcuda\b|\bgpu\b|\bpanic\b",
        r"(http|status|code|error|状态码|错误码)[^0-9]{0,8}50[0-4]\b|^\s*50[0-4]\b|\b50[0-4] (internal|bad|service|gateway|server)",
        r"内部错误|未知错误|系统(错误|异常|繁忙)|服务.{0,4}(异常|错误|不可用|繁忙)|模型|推理|引擎|合成.{0,4}(失败|异常|错误)|显存|内存(不足|溢出)|空指针",
    ),
)  # fmt: skip

BUILTIN_RULES: Final[tuple[Rule, ...]] = _BY_CODE + _BY_PHRASE + _BY_WORDS


def compile_rule(pattern: str) -> Any:  # noqa: ANN401 - google-re2 ships no types
    """The compiled pattern, or ValueError with RE2's own one-line reason."""
    try:
        return re2.compile(pattern.encode(), options=_options())
    except re2.error as error:
        reason = error.args[0] if error.args else b""
        raise ValueError(
            reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        ) from None
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair") from None


class Classifier:
    """Tries rules in order; the first that matches names the class. ValueError for a pattern RE2 refuses."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        rules = tuple(rules)
        named = dict.fromkeys(name for name, _ in rules if name not in (UNCLASSIFIED, NO_MESSAGE))
        self.classes: tuple[str, ...] = (*named, UNCLASSIFIED, NO_MESSAGE)
        self._names = tuple(name for name, _ in rules)
        self._patterns = tuple(compile_rule(pattern) for _, pattern in rules)
        self._together = _together(pattern for _, pattern in rules)
        self._remember = lru_cache(maxsize=_REMEMBERED)(self._first_match)

    def classify(self, text: str) -> str:
        """One of ``classes``."""
        if len(text) <= _REMEMBERED_LENGTH:
            return self._remember(text)
        return self._first_match(text[:MESSAGE_LIMIT])

    def _first_match(self, text: str) -> str:
        if not text.strip():
            return NO_MESSAGE
        message = text.encode("utf-8", "replace")  # half a surrogate pair can arrive as a JSON escape
        # All patterns in one scan: 1.5 us a message, one by one 20 us. The scan gives up silently when
        # its automaton outgrows its memory, so "nothing" is only believed after asking one by one.
        if found := self._together.Match(message):
            return self._names[min(found)]
        for name, pattern in zip(self._names, self._patterns, strict=True):
            if pattern.search(message):
                return name
        return UNCLASSIFIED


def _options() -> Any:  # noqa: ANN401 - google-re2 ships no types
    options = re2.Options()
    options.log_errors = False  # otherwise RE2 writes to stderr behind the log's back
    return options


def _together(patterns: Iterable[str]) -> Any:  # noqa: ANN401 - google-re2 ships no types
    together = re2.Set.SearchSet(_options())
    for pattern in patterns:
        together.Add(pattern.encode())
    together.Compile()
    return together


_BLANK: Final = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+"
)
_VARIABLE: Final = re.compile(
    r"(?P<url>[A-Za-z][A-Za-z0-9+.-]{0,15}://[^\s\"'<>,;，。；、（）()【】]+)"
    r"|(?P<uuid>[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12})"
    r"|(?P<time>(?:[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}|[0-9]{4}年[0-9]{1,2}月[0-9]{1,2}日)"
    r"(?:[T ]?[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
    r"|[0-9]{8}T[0-9]{6}Z?|[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?)"
    r"|(?P<id>[0-9A-Fa-f]{32,})"
    r"|(?P<number>[0-9]{6,})"
)


def template(text: str) -> str:
    """The message with what varies masked (``<uuid>``, ``<id>``, ``<number>``, ``<url>``, ``<time>``).

    One line of at most ``TEMPLATE_LIMIT`` characters, without control characters.
    """
    line = _BLANK.sub(" ", text[:MESSAGE_LIMIT]).strip()
    masked = _VARIABLE.sub(lambda match: f"<{match.lastgroup}>", line)
    return masked if len(masked) <= TEMPLATE_LIMIT else masked[: TEMPLATE_LIMIT - 1] + "…"
