"""Colours of code, few and calm: a contrast of 4.5 or more on either ground."""

from typing import ClassVar

from pygments.style import Style
from pygments.token import Comment, Generic, Keyword, Name, Number, String, Token


class Light(Style):
    """On a light ground."""

    background_color = "#f3f4f6"
    highlight_color = "#dfe8f3"
    styles: ClassVar = {
        Token: "#24292f",
        Comment: "italic #57606a",
        Keyword: "#8b2252",
        Name.Function: "#0b5394",
        Name.Class: "#0b5394",
        Name.Builtin: "#0b5394",
        Name.Decorator: "#57606a",
        String: "#22662f",
        Number: "#7a4a00",
        Generic.Prompt: "#57606a",
        Generic.Output: "#3d444d",
        Generic.Error: "#a40e26",
        Generic.Traceback: "#57606a",
    }


class Dark(Style):
    """On a dark ground."""

    background_color = "#1c1f24"
    highlight_color = "#2b3542"
    styles: ClassVar = {
        Token: "#dfe3e8",
        Comment: "italic #a0a8b3",
        Keyword: "#e59cc0",
        Name.Function: "#8ec1f5",
        Name.Class: "#8ec1f5",
        Name.Builtin: "#8ec1f5",
        Name.Decorator: "#a0a8b3",
        String: "#9ad6a4",
        Number: "#e8c07d",
        Generic.Prompt: "#a0a8b3",
        Generic.Output: "#c9d0d8",
        Generic.Error: "#ff9a9a",
        Generic.Traceback: "#a0a8b3",
    }
