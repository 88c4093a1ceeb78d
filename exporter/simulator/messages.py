"""Failure texts as a service might write them: Chinese and English, with ids, numbers and codes inside.

Pure data. No public example of ``fail_msg`` exists; the texts are made from the documented error codes.
Knows nothing of how anybody else classifies them; ``kind`` is what really went wrong.
"""

from __future__ import annotations

import random
from typing import Final

MESSAGES: Final[dict[str, tuple[str, ...]]] = {
    "sensitive_content": (
        "MSS.10010012: text contains sensitive words, request {uuid}",
        "文本包含敏感词，任务 {hex} 已终止",
        "文本审核未通过，审核单号 {n}",
        "Content moderation rejected the text (score 0.{n2})",
        "内容安全检测不通过：第 {n2} 段涉嫌违规",
    ),
    "text_too_long": (
        "MSS.20051001 TTS_TO_LONG_WORD_TEXT: one word has {n} characters",
        "文本长度超过限制，当前 {n} 字",
        "The text is too long: {n} characters, at most 10000",
        "字符数过长（{n}），请分段提交",
    ),
    "voice_asset": (
        "MSS.20050042: TTS_VOICE_ASSET_UNACTIVATED asset {hex}",
        "音色不存在：{hex}",
        "voice asset not found: {hex} (request {uuid})",
        "MSS.20050029: This tts access config is not exist,please check",
        "音色资产已过期，asset_id={hex}",
    ),
    "text_unsupported": (
        "MSS.20050040: text is invalid, please check",
        "MSS.20050064 TTS_UNSUPPORTED_LANGUAGE_TEXT at offset {n2}",
        "No valid text, please enter Chinese characters, letters, or digits",
        "SSML parse failed at line {n2}: unexpected tag <brk>",
        "文本为空，任务 {uuid}",
    ),
    "billing_quota": (
        "MSS.20050039: TTS_INSUFFICIENT_ACCOUNT_BALANCE, domain {hex}",
        "账户余额不足，请充值后重试",
        "resource type is RESTRICTED, domain {hex}",
        "账号已欠费，订单 {n}",
    ),
    "throttled": (
        "MSS.47010004: requests too frequent, retry after {n2} s",
        "并发数已达上限（{n2}），请稍后重试",
        "MSS.20010056: running job limit reached, {n2} jobs",
        "触发流控，请求 {uuid}",
    ),
    "storage": (
        "upload to OBS failed: HTTP 403, bucket tts-{n}",
        "音频上传失败，桶 tts-{n}",
        "put object error after {n2} attempts: {uuid}.wav",
    ),
    "timeout": (
        "waiting for the result timed out after {n2} s",
        "任务执行超时（{n2}s），节点 10.0.{n2}.17",
        "deadline passed at step {n2}, task {uuid}",
    ),
    "auth": (
        "MSS.20050023: Token is expired",
        "鉴权失败，会话 {uuid}",
    ),
    "bad_request": (
        "MSS.000000003: invalid parameter 'speed': {n}",
        "参数错误：pitch={n}",
    ),
    "internal": (
        "MSS.42000007: Infer Error, node gpu-{n2}",
        "内部错误，trace {uuid}",
        "Internal Server Error (trace {hex})",
        "MSS.47000029: TTS conversion failed, worker {n2}",
        "合成失败，引擎返回 {n}",
        "模型加载异常：model-{n2}",
    ),
    "disconnected": (
        "websocket closed by the client, code 1006, session {uuid}",
        "客户端断开，会话 {hex}",
        "connection reset by peer, session {n}",
    ),
    "unclassifiable": (
        "E{n}: gnomon misaligned",
        "罕见情况 {n}：请联系支持",
        "ret={n}, see {uuid}",
        "unexpected outcome #{n2}",
    ),
    "empty": ("",),
}
"""Texts by kind of failure."""


def fail_msg(kind: str, rng: random.Random) -> str:
    """One text of that kind, with fresh ids and numbers inside."""
    text = rng.choice(MESSAGES[kind])
    if "{" not in text:
        return text
    bits = rng.getrandbits(128)
    hex32 = f"{bits:032x}"
    uuid = f"{hex32[:8]}-{hex32[8:12]}-4{hex32[13:16]}-a{hex32[17:20]}-{hex32[20:]}"
    return text.format(uuid=uuid, hex=hex32, n=bits % 9_000_000 + 1_000_000, n2=bits % 89 + 10)
