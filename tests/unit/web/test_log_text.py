"""A log as plain text, for readers without JavaScript."""

from __future__ import annotations

from nautilus.web.logtext import plain, tail


def test_colours_and_other_control_sequences_go() -> None:
    assert plain("\x1b[1;31mred\x1b[0m \x1b]0;title\x07and \x1b[2Kplain\x00\x08") == "red and plain"


def test_section_markers_go_and_their_titles_stay() -> None:
    text = (
        "section_start:1700000000:get_sources[collapsed=true]\r\x1b[0K\x1b[36mGetting source\x1b[0m\n"
        "Fetching\nsection_end:1700000003:get_sources\r\x1b[0K\nDone\n"
    )
    assert plain(text) == "Getting source\nFetching\n\nDone\n"


def test_of_an_overwritten_line_the_last_state_stays() -> None:
    assert plain("10%\r50%\r100%\nnext\r\n") == "100%\nnext\n"
    assert plain("working\r") == "working"


def test_markup_is_left_for_the_template_to_escape() -> None:
    assert plain("<script>\x1b[0malert(1)</script>") == "<script>alert(1)</script>"


def test_a_tail_is_the_last_lines() -> None:
    assert tail("1\n2\n3", 2) == "2\n3"
