"""Phrases of the page that classifies images in the browser."""

from __future__ import annotations

WEB: dict[str, tuple[str, str]] = {
    "web_about": (
        "A residual network inside this page. Images stay on this device.",
        "残差网络就在本页面中运行，图像不会离开你的设备。",
    ),
    "web_drop": ("Drop, paste or choose an image", "拖入、粘贴或选择一张图像"),
    "web_loading": ("Loading the network…", "正在加载网络……"),
    "web_waiting": ("Ready for an image.", "可以放入图像了。"),
    "web_working": ("Computing…", "正在计算……"),
    "web_unreadable": ("This is not an image that the browser can read.", "浏览器无法读取这张图像。"),
    "web_too_large": ("This image has too many pixels.", "这张图像的像素太多。"),
    "web_not_sure": ("not sure", "不确定"),
    "web_novel": ("This image is unlike the training data.", "这张图像与训练数据不相像。"),
    "web_map": ("Class activation map", "类激活图"),
    "web_press": (
        "Choose a class to see the regions that speak for it.",
        "点选一个类别，查看支持该类别的区域。",
    ),
    "web_time": ("Computed in", "计算用时"),
    "web_picture": ("The image with the class activation map", "图像与类激活图"),
    "web_failed": ("The network could not be loaded:", "网络加载失败："),
}
