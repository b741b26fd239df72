"""The checks of pages find what they are for."""

from __future__ import annotations

import pytest

GOOD = '<!doctype html><html lang="en"><head><title>a page</title><link rel="icon" href="data:,"></head><body><main>'
FAULTS = {
    "script": "<script>undefinedName()</script>",
    "console": "<script>console.error('broken')</script>",
    "request": '<link rel="stylesheet" href="http://127.0.0.1:9/style.css">',
    "images": '<img alt="missing" src="data:image/png;base64,AAAA">',
    "wider": '<div style="width: 3000px">wide</div>',
}


def test_a_plain_page_passes(open_page, axe, tmp_path):
    (tmp_path / "page.html").write_text(f"{GOOD}<h1>Hello</h1></main></body></html>")
    axe(open_page(tmp_path / "page.html", width=390, dark=True, alone=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_page_fails(fault, open_page, tmp_path):
    (tmp_path / "page.html").write_text(f"{GOOD}<h1>Hello</h1>{FAULTS[fault]}</main></body></html>")
    with pytest.raises(AssertionError, match=fault):
        open_page(tmp_path / "page.html")
    open_page.faults.clear()


def test_axe_sees_text_without_contrast(open_page, axe, tmp_path):
    (tmp_path / "page.html").write_text(f'{GOOD}<h1>Hello</h1><p style="color: #ddd">faint</p></main></body></html>')
    page = open_page(tmp_path / "page.html")
    with pytest.raises(AssertionError, match="color-contrast"):
        axe(page)
