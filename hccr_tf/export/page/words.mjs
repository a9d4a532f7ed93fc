// What the page says, in English and Chinese.

export const WORDS = {
  en: {
    title: "Handwritten Chinese characters",
    otherLanguage: "中文",
    otherLanguageCode: "zh",
    inputLabel: "Draw or choose an image",
    canvasLabel: "Drawing area",
    hint: "Draw one character; or drop, paste or choose an image of one.",
    toolsLabel: "Drawing tools",
    undo: "Undo",
    clear: "Clear",
    thickness: "Thickness",
    chooseImage: "Choose image…",
    takePhoto: "Take photo…",
    outputLabel: "What it was read as",
    loading: "The recogniser is starting…",
    ready: "Ready.",
    reading: "Reading…",
    blank: "Nothing to be seen but paper.",
    noImage: "That's no image this browser can show.",
    failed: (reason) => `The recogniser couldn't start: ${reason}`,
    read: (character, percent) => `${character}, ${percent}`,
    candidate: (character, percent, number) => `${number}: ${character}, ${percent}. Copy`,
    copied: (character) => `${character} copied.`,
    privacy: "All happens in this file: nothing is sent, and no network is needed.",
    shortcuts: "Keys: Ctrl+Z undo, Esc clear, Ctrl+V paste an image, 1 to 9 copy a candidate.",
  },
  zh: {
    title: "手写汉字识别",
    otherLanguage: "English",
    otherLanguageCode: "en",
    inputLabel: "书写或选择图片",
    canvasLabel: "书写区",
    hint: "写一个字；也可以拖入、粘贴或选择一张单字图片。",
    toolsLabel: "书写工具",
    undo: "撤销",
    clear: "清空",
    thickness: "粗细",
    chooseImage: "选择图片…",
    takePhoto: "拍照…",
    outputLabel: "识别结果",
    loading: "正在启动识别器……",
    ready: "可以书写了。",
    reading: "正在识别……",
    blank: "图中没有看到字。",
    noImage: "浏览器无法打开这个文件，请换一张图片。",
    failed: (reason) => `识别器无法启动：${reason}`,
    read: (character, percent) => `${character}，${percent}`,
    candidate: (character, percent, number) => `${number}：${character}，${percent}，复制`,
    copied: (character) => `已复制“${character}”。`,
    privacy: "一切都在本文件中完成：不上传任何内容，也不需要网络。",
    shortcuts: "快捷键：Ctrl+Z 撤销，Esc 清空，Ctrl+V 粘贴图片，1 至 9 复制候选字。",
  },
};

/** The language of those that a browser asks for: "zh" where Chinese comes before English. */
export function preferred(languages) {
  const known = languages.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in WORDS);
  return known ?? "en";
}
