"""The built-in failure classes, as data: documented codes first, then phrases, then words.

Knows how speech synthesis services word their failures, in Chinese and English. No real ``fail_msg`` is
public: these rules come from documented codes and from the wording of similar services, and users can put
their own before them. The first match wins, so the order matters.
"""

from __future__ import annotations

from typing import Final

ClassPattern = tuple[str, str]
"""(class, RE2 pattern searched anywhere in the message)"""


def _rule(name: str, *alternatives: str) -> ClassPattern:
    return name, "(?is)" + "|".join(alternatives)


def _codes(name: str, *codes: str) -> ClassPattern:
    return name, rf"(?i)\b0?({'|'.join(codes)})\b"


# A code is more precise than the words around it, so the codes come first. They are written with eight or
# nine digits (MSS.20050053, MSS.020050053); the boundaries keep them from matching inside a longer id.
_BY_CODE: Final = (
    _codes("sensitive_content", "10010012"),
    _codes("text_too_long", "20051001", "TTS_TO_LONG_WORD_TEXT"),
    _codes("voice_asset", "20050042", "20050029", "20050038", "10001001", "20010044"),
    _codes("voice_asset", "20010071", "20010131", "20010140", "TTS_VOICE_ASSET_UNACTIVATED"),
    _codes("voice_asset", "TTS_NO_ACCESS_CONFIG", "TTS_ACCESS_CONFIG_ERROR"),
    _codes("text_unsupported", "20050040", "20050064", "TTS_INVALID_TEXT", "TTS_UNSUPPORTED_LANGUAGE_TEXT"),
    _codes("billing_quota", "20050039", "20050053", "47010126", "TTS_INSUFFICIENT_ACCOUNT_BALANCE"),
    _codes("throttled", r"APIGW?\.0308", "47010004", "47010150", "20010035", "20010056"),
    _codes("auth", "20050023"),
    _codes("internal", "47000029", "42000007"),
)

# Phrases that a broader rule below would take for something else: "concurrency quota exceeded" is not about
# money, "voice service unavailable" is not about the voice.
_BY_PHRASE: Final = (
    _rule(
        "throttled",
        r"(concurren(t|cy)|\bqps\b|\btps\b|\brate\b|queue).{0,16}(quota|limit|exceed|full)",
        r"(并发|队列|排队).{0,16}(配额|上限|限制|超过|超出|已满)",
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

# What may stand between "text" and "too long" without changing what the sentence is about:
# "text length 12000 exceeds" and "文本的总长度为12000，超过", but not "text to speech quota exceeded".
_FILLER_EN: Final = (
    r"([\s\d:=,'\"()\[\]._-]|length|size|content|count|number|input|chars?|characters?|is|are|was|has|of|the|be"
    r"|must|should|can|may|not|cannot|that|which|far|much)*"
)
_FILLER_ZH: Final = (
    r"(的|总|长度|字数|字符数?|数量?|大小|内容|输入|为|是|已|不能|不得|不可|不应|[\d\s:：,，()（）])*"
)

_BY_WORDS: Final = (
    _rule(
        "sensitive_content",
        r"敏感|违规|违禁|违法|涉政|涉黄|涉恐|涉暴|色情|内容安全",
        r"审核.{0,4}(不|未)通过|审核(失败|拒绝|驳回)",
        r"sensitive.?(word|content|text|info|material|phrase|term|topic)",
        r"(contain|includ|politic|detect)\w*\s+sensitive",
        r"moderation|inappropriate|(illegal|prohibited|forbidden) (content|text|word)",
        r"\bcontent [^-]{0,20}(violat|reject|block)",
        r"\b(content|text|words?)\b.{0,16}\bprohibited",
    ),
    _rule(
        "text_too_long",
        rf"\b(text|characters?|length|words?|sentence)\b{_FILLER_EN}(too.?long|exceed|over.?(limit|length|size))",
        r"too?.long.{0,4}(word|text|sentence)|too many (characters|words)",
        r"exceed(s|ed|ing)?( the)?( max(imum)?| allowed| permitted| limit of| number of|\s\d+)*"
        r"\s(text|characters?|length|words?)\b",
        rf"(文本|文字|内容|字数|字符数?|长度|句子|单词){_FILLER_ZH}(过长|超长|太长|超限|超过|超出)",
        r"(过长|超长|太长)的?(文本|文字|句子|单词)",
        r"(超过|超出)[^,，。;；]{0,12}(字数|字符|文本长度|长度限制|长度上限|个?字)",
    ),
    _rule(
        "voice_asset",
        r"access config",
        r"(音色|声音|发音人|角色|资产).{0,32}(不存在|未找到|找不到|未激活|未授权|无权限)",
        r"(音色|声音|发音人|角色|资产).{0,32}(不可用|已?冻结|过期|删除|下线|无效)",
        r"(不存在|未找到|找不到|无效)的?(该|此|指定)?的?(音色|发音人|资产)",
        r"(\b(voice|timbre|asset|speaker)|音色|资产)(.{0,32}|.{0,16}[0-9a-f-]{32,36}.{0,16})"
        r"(not (exist|found|activ|authori[sz]ed|avail?able)|doesn't exist|unauthori[sz]ed)",
        r"\b(voice|timbre|asset|speaker).{0,32}(unactivated|inactive|frozen|deleted)",
        r"\b(voice|timbre|asset|speaker)[^,.;:]{0,16}(unavailable|expired|invalid)",
        r"(no such|unknown|invalid|missing) (voice|timbre|asset|speaker)",
    ),
    _rule(
        "text_unsupported",
        r"ssml|\btext is invalid|invalid text|no valid text|(empty|blank) text",
        r"\btext\b.{0,24}\b(empty|blank|null)\b",
        r"(unsupported|not support(ed)?).{0,24}\b(language|characters?|text|tags?|phonemes?)\b",
        r"\b(language|character|tag)s?\b.{0,24}(unsupported|not support)",
        r"文本.{0,6}(为空|无效|非法|不支持)|不支持.{0,10}(语言|语种|字符|文本|标签|播报)",
        r"非法字符|特殊字符|(语言|语种|字符|标签).{0,6}不支持",
        r"(语言|语种|字符|标签|文本)(内容|格式|类型|编码)?错误",
    ),
    _rule(
        "billing_quota",
        r"insufficient.{0,24}\b(balance|quota|funds?)|exceed.{0,16}\bquota|no (remaining )?quota",
        r"\b(balance|quota|package)\b.{0,24}(insufficient|not enough|exhaust|used up|exceed)",
        r"arrears|(payment|bill|account)\w*.{0,16}overdue|overdue.{0,8}(payment|bill|account)",
        r"(resource|account).{0,16}\brestricted|account.{0,16}(frozen|suspended)",
        r"欠费|余额不足|(没有|无|缺少)额度|额度(不足|用完|已用)|配额",
        r"套餐.{0,8}(用完|用尽|不足|过期)|未(开通|启用|开启).{0,6}(按需|计费|服务)|(按需|计费|服务)未(开通|启用|开启)",
    ),
    _rule(
        "throttled",
        r"(http|status|code|error|状态码|错误码)[^0-9]{0,8}429\b|^\s*429\b|\b429 too\b",
        r"throttl|too many (request|concurrent|connection|job|task|call|session)",
        r"too (frequent|often)|\brate.?limit|flow.?(limit|control)",
        r"\bconcurrency\b|concurrent (request|job|task|call|session|connection)",
        r"resources?.{0,16}(not enough|insufficient|exhaust)|(not enough|insufficient) resources?",
        r"流控|限流|频繁|并发(数|量|路|任务|请求|资源|不足|过|已|达)|资源(不足|已满|紧张)|排队",
    ),
    _rule(
        "storage",
        r"\bobs\b|bucket|output_external_url|存储|桶",
        r"\b(upload|download|stor(e|ing)|sav(e|ing)|put(.?object)?)\b.{0,24}(fail|error|denied|time.?out)",
        r"(fail|error)\w*\b.{0,24}\b(upload|download|store|save)",
        r"(上传|下载|保存).{0,8}(失败|错误|异常|超时)",
    ),
    _rule(
        "timeout",
        r"timeout|\btime[ _-]out|timed.?out|deadline|expired waiting|超时|等待.{0,6}(过久|过长)",
    ),
    _rule(
        "auth",
        r"\btoken\b.{0,8}\b(empty|expired|invalid)|invalid (auth\w* )?token|project.?id is not match",
        r"unauthori[sz]ed|forbidden|access denied|(authentication|authorization) fail",
        r"鉴权失败|认证失败|无权限|没有权限",
        r"令牌.{0,4}(过期|无效|失效)|签名.{0,4}(错误|失败|无效|过期)",
    ),
    _rule(
        "bad_request",
        r"MSS\.0{7,8}3\b|bad request|(invalid|illegal|missing|wrong)( required)? (param|argument)",
        r"\b(param|argument)\w*.{0,24}\b(invalid|illegal|missing|required|abnormal)",
        r"参数.{0,6}(错误|非法|无效|不合法|缺失|异常|为空|校验)",
    ),
    _rule(
        "disconnected",
        r"websocket.{0,24}(clos|disconnect|reset|broken)|broken pipe|断开|断连|断链",
        r"\b(connection|link|client|socket|peer|stream)\b.{0,16}(closed|disconnect|reset|broken|lost)",
    ),
    _rule(
        "internal",
        r"MSS\.0{7,8}[12]\b|internal|server error|infer(ence)?\b|\bmodel|\bengine|exception|null ?pointer",
        r"unknown error|out of memory|\boom\b|\bcuda\b|\bgpu\b|\bpanic\b|looking for beginning of value",
        r"synthesi[sz].{0,16}(fail|error)|(fail|error)\w*\b.{0,16}synthesi[sz]",
        r"(http|status|code|error|状态码|错误码)[^0-9]{0,8}50[0-4]\b",
        r"^\s*50[0-4]\b|\b50[0-4] (internal|bad|service|gateway|server)",
        r"内部错误|未知错误|系统(错误|异常|繁忙)|服务.{0,4}(异常|错误|不可用|繁忙)",
        r"模型|推理|引擎|合成.{0,4}(失败|异常|错误)|显存|内存(不足|溢出)|空指针",
    ),
)

BUILTIN_RULES: Final[tuple[ClassPattern, ...]] = _BY_CODE + _BY_PHRASE + _BY_WORDS
