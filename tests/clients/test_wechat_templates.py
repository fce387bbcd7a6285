"""The value rules of subscribe-message templates, and that the sandbox, which read them separately, agrees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clients.wechat_errors import MessageInvalid
from app.clients.wechat_templates import fit
from app.sandbox.wechat_values import first_fault

GOOD = [
    ("thing1", "好"),
    ("thing20", "字" * 20),
    ("number1", "-12.5"),
    ("number1", "1" * 32),
    ("letter1", "a" * 32),
    ("symbol1", "#%&*!"),
    ("character_string1", "JC-2026/001"),
    ("time1", "15:01"),
    ("time1", "2019年10月1日 15:01"),
    ("time1", "15:01~17:30"),
    ("date1", "2019年10月1日"),
    ("date1", "2019年10月1日 15:01"),
    ("date1", "2019年10月1日~2019年10月7日"),
    ("amount1", "¥88.00"),
    ("amount1", "88.00元"),
    ("amount1", "1234567890"),
    ("phone_number1", "+86-0766-66888866"),
    ("car_number1", "粤A8Z888挂"),
    ("car_number1", "粤A8Z888"),
    ("name1", "张三丰"),
    ("name1", "Li Hua, Jr."),
    ("phrase1", "处理完成"),
    ("enum1", "已接单"),
]
BAD = [
    ("thing1", ""),
    ("thing1", " \n "),
    ("number1", "1" * 33),
    ("number1", "1,000"),
    ("number1", "٣"),
    ("letter1", "a" * 33),
    ("letter1", "字"),
    ("symbol1", "######"),
    ("symbol1", "a"),
    ("character_string1", "编号1"),
    ("character_string1", "a" * 33),
    ("time1", "2026-01-01T15:01:00Z"),
    ("time1", "25:00"),
    ("time1", "15:60"),
    ("time1", "1:00~2:00~3:00"),
    ("date1", "15:01"),
    ("date1", "10月1日"),
    ("amount1", "12345678901"),
    ("amount1", "-5"),
    ("amount1", "88.00美元"),
    ("phone_number1", "1" * 18),
    ("phone_number1", "电话"),
    ("car_number1", "粤粤A8888"),
    ("car_number1", "粤A8Z888挂挂"),
    ("phrase1", "处理完成了吗"),
    ("phrase1", "完成ok"),
    ("enum1", ""),
    ("thing", "没有编号"),
    ("colour1", "没有这种"),
    ("1", "没有类型"),
]


@pytest.mark.parametrize(("field", "value"), GOOD)
def test_a_good_value_passes_unchanged(field: str, value: str) -> None:
    assert fit(field, value) == value
    assert first_fault({field: {"value": value}}) is None


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_value_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(MessageInvalid) as raised:
        fit(field, value)
    assert raised.value.field == field


@pytest.mark.parametrize(("field", "value"), [pair for pair in BAD if pair[1].strip()])
def test_the_sandbox_refuses_it_too(field: str, value: str) -> None:
    fault = first_fault({field: {"value": value}})
    assert fault is not None
    assert f"data.{field}.value" in fault


@pytest.mark.parametrize(
    ("field", "value", "cut"),
    [
        ("thing1", "字" * 21, "字" * 19 + "…"),
        ("thing1", "🔥" * 30, "🔥" * 19 + "…"),
        ("thing1", " 两\n行 \t", "两 行"),
        ("name1", "欧阳" * 6, "欧阳" * 4 + "欧…"),
        ("name1", "a" * 21, "a" * 19 + "…"),
        ("name1", "a" * 19 + "王", "a" * 9 + "…"),
    ],
)
def test_prose_is_cut_by_characters(field: str, value: str, cut: str) -> None:
    assert fit(field, value) == cut


KINDS = sorted({field.rstrip("0123456789") for field, _ in GOOD})
TEXTS = st.text(max_size=40) | st.text("0123456789.:~-+年月日 元¥aZ粤#", max_size=36)


@given(st.sampled_from(KINDS), TEXTS)
def test_whatever_fits_here_is_taken_there(kind: str, text: str) -> None:
    field = f"{kind}1"
    try:
        value = fit(field, text)
    except MessageInvalid:
        return
    assert first_fault({field: {"value": value}}) is None
