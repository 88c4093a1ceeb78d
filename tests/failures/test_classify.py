"""The failure classes: every rule's own messages, the misfires that the order prevents, hostile text."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.failures import BUILTIN_RULES, Classifier, compile_rule, template
from exporter.failures.classify import CLASSIFIED_LIMIT, TEMPLATE_LIMIT

MESSAGES = {
    "sensitive_content": (
        "sensitive word found",
        "the request contains sensitive material",
        "sensitive information detected",
        "such words are prohibited",
        "politically sensitive",
        "MSS.10010012",
        "error code 010010012",
        "文本包含敏感词，请修改后重试",
        "内容审核未通过",
        "审核不通过: 涉政",
        "Text contains sensitive words",
        "content moderation rejected the request",
        "The content violates our policy",
        "输入文本违规",
        "Text contains illegal content",
    ),
    "text_too_long": (
        "过长的文本",
        "MSS.20051001",
        "TTS_TO_LONG_WORD_TEXT",
        "文本过长",
        "文本长度超过限制",
        "文本的总长度为12000，超过10000个字符",
        "字符数不能超过 10000",
        "超出最大字符数",
        "text too long",
        "Text length 12000 exceeds the limit 10000",
        "The length of the text (12000) exceeds the maximum",
        "input exceeds the maximum text length",
        "Number of characters is over limit",
        "单词过长",
        "too many characters in one sentence",
    ),
    "voice_asset": (
        "找不到该音色",
        "voice was deleted",
        "no such speaker",
        "This tts access config is not exist,please check",
        "MSS.20050042",
        "TTS_VOICE_ASSET_UNACTIVATED",
        "TTS_ACCESS_CONFIG_ERROR",
        "Asset not found",
        "voice_asset_id 3f2b8c1e-9a3b-4c4d-8e5f-001122334455 does not exist: not found",
        "音色不存在",
        "发音人已下线",
        "该音色未授权给当前租户",
        "声音资产已冻结",
        "timbre is unauthorized",
        "speaker id invalid",
        "voice asset expired",
    ),
    "text_unsupported": (
        "text must not be empty",
        "text is invalid, please check",
        "MSS.20050064",
        "TTS_UNSUPPORTED_LANGUAGE_TEXT",
        "TTS_INVALID_TEXT",
        "No valid text, please enter Chinese characters, letters, or digits",
        "SSML 标签解析失败",
        "不支持的语言",
        "文本内容错误",
        "文本为空",
        "Unsupported language: th-TH",
        "the language is not supported",
        "存在非法字符",
        "语种暂不支持",
    ),
    "billing_quota": (
        "payment overdue",
        "in arrears",
        "MSS.20050039",
        "TTS_INSUFFICIENT_ACCOUNT_BALANCE",
        "账户余额不足",
        "您的账号已欠费",
        "resource type is RESTRICTED",
        "package used up",
        "套餐包已用完",
        "未开通按需计费",
        "quota exceeded",
        "Exceeded your quota while converting text",
        "account frozen",
    ),
    "throttled": (
        "语音并发配额已用完",
        "超过最大排队人数，配额不足",
        "throttled",
        "calls are too frequent",
        "concurrent tasks: 20",
        "Concurrency reached",
        "APIG.0308 The throttling threshold has been reached: policy user over ratelimit",
        "APIGW.0308",
        "HTTP 429",
        "429 Too Many Requests",
        "请求过于频繁",
        "并发数已达上限",
        "Too many concurrent jobs",
        "concurrency quota exceeded",
        "text to speech rate limit exceeded",
        "text queue is full: queue length exceeds 100",
        "资源不足，请稍后重试",
        "not enough resources",
        "token bucket exhausted",
        "文本合成请求超过并发限制",
        "RESOURCE_EXHAUSTED: resource exhausted",
    ),
    "storage": (
        "upload to OBS failed",
        "上传音频文件失败",
        "下载超时",
        "failed to save audio file",
        "put object error",
        "bucket does not allow writing",
        "invalid output_external_url",
        "存储服务返回 500",
    ),
    "timeout": (
        "合成超时",
        "context deadline exceeded",
        "deadline exceeded while processing text",
        "text synthesis deadline exceeded",
        "exceeded the deadline for the text",
        "request timed out",
        "java.net.SocketTimeoutException: Read timed out",
        "waiting for synthesis timed out",
        "504 Gateway Timeout",
        "等待时间过长",
    ),
    "auth": (
        "20050023: the caller must sign in again",
        "Token is expired",
        "MSS.20050023: Token is empty",
        "ProjectId is not match.",
        "Forbidden",
        "鉴权失败",
        "没有权限执行该操作",
        "令牌已过期",
    ),
    "bad_request": (
        "MSS.000000003",
        "MSS.00000003 Invalid parameter",
        "illegal argument: speed",
        "参数错误",
        "参数speed不合法",
        "parameter pitch is required",
        "Bad Request",
    ),
    "disconnected": (
        "websocket closed by client",
        "Connection reset by peer",
        "java.io.IOException: Broken pipe",
        "客户端连接断开",
        "client disconnected",
        "model gateway: connection lost",
    ),
    "internal": (
        "MSS.47000029",
        "服务暂不可用：音色不可用",
        "voice not available: too many open files",
        "failed to synthesize",
        "503 Service",
        "MSS.000000001",
        "MSS.00000002 internal error",
        "服务内部错误",
        "系统繁忙",
        "Infer Error 42000007",
        "model load failed",
        "推理引擎异常",
        "语音合成失败",
        "文本合成错误",
        "CUDA out of memory",
        "java.util.ConcurrentModificationException",
        "voice synthesis service unavailable",
        "语音合成服务不可用",
        "HTTP 502",
        "invalid character '<' looking for beginning of value",
        "output failed: internal",
        "语言模型错误",
    ),
    "unclassified": (
        "something else entirely",
        "未归类的提示",
        "job 429 rejected",
        "case-sensitive header name",
        "job 50040 rejected",
        "input rejected",
        "restored from snapshot",
        "id 1720050039001",
        "took 502 ms",
        "runtime output missing",
        "password rejected",
        "fact: 并发修改",
    ),
    "no_message": ("", " ", "\t\r\n", "\u3000"),
}
SHIPPED = Classifier(BUILTIN_RULES)
ANY_TEXT = st.text(
    st.characters() | st.sampled_from("文本语言音色超过text voice limit\ud800\x00\n"), max_size=300
)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        pytest.param(name, message, id=f"{name}-{i}")
        for name, messages in MESSAGES.items()
        for i, message in enumerate(messages)
    ],
)
def test_builtin_class(expected: str, message: str) -> None:
    """The shipped rules put a message where an operator would look for it."""
    assert SHIPPED.classify(message) == expected


@pytest.mark.parametrize("case", [str.upper, str.lower], ids=["upper", "lower"])
def test_builtin_rules_ignore_case(case: object) -> None:
    """The shipped rules do not depend on capitals."""
    assert callable(case)
    for name, messages in MESSAGES.items():
        for message in messages:
            assert SHIPPED.classify(case(message)) == name, message


def test_every_builtin_class_has_messages() -> None:
    """No class is shipped that these examples do not exercise."""
    assert set(SHIPPED.classes) == set(MESSAGES)


def test_words_may_stand_on_different_lines() -> None:
    """A message broken over lines is read as one."""
    assert SHIPPED.classify("文本\n过长") == "text_too_long"


def test_first_match_wins() -> None:
    """Rules are tried in order: the user's come before the shipped ones, and case is theirs to decide."""
    classifier = Classifier([("brand_voice", "brand voice"), *BUILTIN_RULES])
    assert classifier.classify("brand voice not found") == "brand_voice"
    assert classifier.classify("Brand Voice not found") == "voice_asset"


def test_classes_are_in_rule_order_without_duplicates() -> None:
    """Class names are listed once each in rule order, the two leftovers last."""
    classifier = Classifier([("b", "x"), ("a", "y"), ("b", "z")])
    assert classifier.classes == ("b", "a", "unclassified", "no_message")
    assert Classifier([]).classes == ("unclassified", "no_message")
    assert Classifier([]).classify("anything") == "unclassified"


def test_rules_search_anywhere_and_to_the_bound() -> None:
    """A match may stand anywhere in the first 4,096 characters; what is beyond is not read."""
    classifier = Classifier([("late", "needle")])
    assert classifier.classify("的" * (CLASSIFIED_LIMIT - 6) + "needle") == "late"
    assert classifier.classify("的" * CLASSIFIED_LIMIT + "needle") == "unclassified"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        pytest.param("(a", "missing ): (a", id="parenthesis"),
        pytest.param(r"(?P<x>a)\1", r"invalid escape sequence: \1", id="backreference"),
        pytest.param("(?<=a)b", "invalid perl operator: (?<=", id="lookbehind"),
        pytest.param("((a{100}){100}){100}", "invalid repetition size: {100}", id="too large"),
        pytest.param("\ud800", "holds half of a surrogate pair", id="surrogate"),
    ],
)
def test_refused_pattern(pattern: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A pattern RE2 refuses is one ValueError with RE2's reason, and nothing is written behind our back."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared below
        compile_rule(pattern)
    assert str(caught.value) == reason
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(ANY_TEXT)
def test_classify_never_fails(text: str) -> None:
    """Any text at all gets one of the listed classes, the same one when asked again."""
    assert SHIPPED.classify(text) in SHIPPED.classes
    assert SHIPPED.classify(text) == SHIPPED.classify(text)


@pytest.mark.parametrize(
    "unit", ["的", "text ", "文本", "language ", "voice ", "tex", "(", "\x00", "超过", "1:00:0", "a://"]
)
def test_hostile_text_is_cheap(unit: str) -> None:
    """The longest message costs milliseconds at most, whatever it repeats."""
    text = unit * (CLASSIFIED_LIMIT // len(unit))
    started = time.process_time()
    SHIPPED.classify(text)
    template(text)
    assert time.process_time() - started < 0.1


def test_repeated_texts_are_remembered() -> None:
    """A page of 100 known messages costs well under 0.3 ms of CPU."""
    page = [f"服务内部错误 {i}" for i in range(100)]
    for text in page:
        SHIPPED.classify(text)
    best = min(_cost(page) for _ in range(20))
    assert best < 0.0003


def _cost(page: list[str]) -> float:
    started = time.process_time()
    for text in page:
        SHIPPED.classify(text)
    return time.process_time() - started


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("job 123e4567-e89b-12d3-a456-426614174000 failed", "job <uuid> failed", id="uuid"),
        pytest.param(
            "project 0123456789abcdef0123456789ABCDEF no", "project <id> no", id="32 hexadecimal digits"
        ),
        pytest.param("trace 0f1e2d3c4b5a6978: gone", "trace <id>: gone", id="16 hexadecimal digits"),
        pytest.param("task_8F3A2B1C失败", "task_<id>失败", id="8 hexadecimal digits"),
        pytest.param("<id>8f3a2b1c9d</id>", "<id><id></id>", id="in markup"),
        pytest.param(
            "a defaced facade, 8f3a2b1, at 0x8f3a2b1c", "a defaced facade, 8f3a2b1, at 0x8f3a2b1c", id="words"
        ),
        pytest.param("efface12x decoded", "efface12x decoded", id="part of a word"),
        pytest.param("任务123456失败", "任务<number>失败", id="number next to Chinese"),
        pytest.param("code 50040 stays", "code 50040 stays", id="a short number stays"),
        pytest.param(
            "见https://obs.example.com/a?b=c，请重试", "见<url>，请重试", id="url up to Chinese comma"
        ),
        pytest.param("at 2025-01-02T03:04:05.678Z, again", "at <time>, again", id="rfc3339"),
        pytest.param("at 2025-01-02 03:04:05+08:00", "at <time>", id="offset"),
        pytest.param("at 20250102T030405Z", "at <time>", id="basic format"),
        pytest.param("2025年1月2日 3:04 起", "<time> 起", id="Chinese date"),
        pytest.param("after 0:01:02.5", "after <time>", id="clock"),
        pytest.param("a\x00b\r\n\tc \u202ed\ud800e", "a b c d e", id="control characters"),
        pytest.param("x" * 300, "x" * (TEMPLATE_LIMIT - 1) + "…", id="bounded"),
        pytest.param("", "", id="empty"),
    ],
)
def test_template(text: str, expected: str) -> None:
    """What varies from job to job becomes a placeholder, the rest stays."""
    assert template(text) == expected


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(ANY_TEXT | st.from_regex(r"[0-9a-f:/.TZ -]{0,80}"))
@example("20250102T030405Zabcd1234")
@example("123e4567-e89b-12d3-a456-426614174000abcd1234")
@example("abc12345" + 16 * "z" + "://x")
@example((TEMPLATE_LIMIT - 10) * "x" + " abcd1234567890z")
def test_template_is_one_bounded_line(text: str) -> None:
    """A template is one bounded line, and making one of it changes nothing."""
    expected = template(text)
    assert len(expected) <= TEMPLATE_LIMIT
    assert expected.encode() is not None
    assert not any(character in expected for character in "\n\r\x00\x1b")
    assert template(expected) == expected
