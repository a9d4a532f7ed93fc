"""The page in one file, read with: its JavaScript beside Python, and in a browser.

HCCR_SCREENSHOTS=docs/images renews the screenshots of docs/apps.md.
"""

import json
import os
import re
import shutil
import subprocess
import zipfile
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from photographs import coloured, gridded, on_paper, unevenly_lit

from hccr_tf.export.page import export_page
from hccr_tf.images.decoding import decode
from hccr_tf.inference.recognizer import Recognizer
from hccr_tf.pretrained import EXPORTED, FOLDER
from hccr_tf.synthesis.deform import centre_lines, draw
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.synthesis.style import HandwritingStyle

pytestmark = pytest.mark.e2e
TESTS = Path(__file__).parents[1] / "export" / "page"
MODULES = Path(__file__).parents[2] / "hccr_tf" / "export" / "page"
WAIT = 240_000  # milliseconds: a browser on a busy machine
# 永 in five strokes, as `load_strokes` has the numerals.
YONG = [
    [[440, 790], [500, 755], [548, 705]],
    [[335, 600], [440, 617], [528, 632], [528, 400], [527, 180], [515, 50], [490, 5], [395, 75]],
    [[140, 425], [250, 440], [375, 465], [340, 350], [250, 220], [125, 105]],
    [[795, 590], [700, 500], [585, 420]],
    [[540, 480], [620, 330], [740, 190], [905, 85]],
]


# === JavaScript beside Python ===


def node(*arguments: object) -> str:
    if not shutil.which("node"):
        pytest.skip("no node, which runs JavaScript without a browser")
    done = subprocess.run(["node", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_the_modules_by_themselves():
    node("--test", TESTS / "modules.test.mjs")


def drawn() -> list[np.ndarray]:
    lines = [centre_lines(strokes) for strokes in load_strokes().values()] * 20
    counts = np.array([len(line) for line in lines])
    seeds = [(7, i) for i in range(len(lines))]
    return draw(np.concatenate(lines), counts, seeds, HandwritingStyle())


def photographs() -> list[np.ndarray]:
    plain = [on_paper(c, seed=i) for i, c in enumerate("一二三四五六七八九十百千万亿零")]
    blue = [coloured(image, (235, 225, 200), (40, 60, 150)) for image in plain]
    lit = [unevenly_lit(image, 0.5, i) for i, image in enumerate(blue)]
    return plain + [255 - image for image in plain] + blue + lit + [gridded(i) for i in plain]


def real(folder: Path) -> list[np.ndarray]:
    file = folder / "icdar2013" / "icdar2013-500.zip"
    if not file.is_file():
        pytest.skip(f"no {file}")
    with zipfile.ZipFile(file) as archive:
        return [decode(archive.read(name)) for name in archive.namelist()[:300]]


@pytest.mark.parametrize("kind", ["drawn", "photographs", "real"])
def test_it_reads_what_python_reads(kind, request, tmp_path, monkeypatch):
    if kind == "real":
        images = real(request.getfixturevalue("real_data"))
    else:
        images = {"drawn": drawn, "photographs": photographs}[kind]()
    recognizer = Recognizer()
    predictor = recognizer.predictor
    views: list[np.ndarray] = []
    network = predictor.logits
    monkeypatch.setattr("hccr_tf.inference.recognizer._SURE", 0.0)  # the page has no second look
    monkeypatch.setattr(predictor, "logits", lambda batch: views.append(batch) or network(batch))
    ours = recognizer.predict(images, single=False)

    rgba = [
        image if image.shape[2:] == (4,) else cv2.cvtColor(image, code)
        for image in images
        for code in [cv2.COLOR_GRAY2RGBA if image.ndim == 2 else cv2.COLOR_RGB2RGBA]
    ]
    (tmp_path / "images.bin").write_bytes(b"".join(image.tobytes() for image in rgba))
    sizes = [{"width": image.shape[1], "height": image.shape[0]} for image in rgba]
    (tmp_path / "images.json").write_text(json.dumps(sizes))
    facts = {
        "characters": predictor.charset.text,
        "preprocessing": predictor.preprocessing.to_dict(),
        "temperature": predictor.temperature,
    }
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    shutil.copy(FOLDER / EXPORTED, tmp_path / "model.onnx")
    theirs = json.loads(node(TESTS / "read_images.mjs", MODULES, tmp_path))

    equal = sum(one.character == other[0][0] for one, other in zip(ours, theirs, strict=True))
    expected = np.concatenate(views).ravel().astype(int)
    found = np.fromfile(tmp_path / "views.bin", np.uint8)
    difference = float(abs(expected - found).mean())
    print(f"{kind}: {equal} of {len(images)} equal, grey levels differ by {difference:.3f}")
    # Light that's divided out ends a grey level off here and there, and so may a close answer.
    assert equal >= len(images) * (0.95 if kind == "photographs" else 298 / 300)
    assert difference <= 2


# === In a browser ===


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        options = ["--no-sandbox"]  # which root, in a container, can't have
        yield running.chromium.launch(executable_path=program, args=options, timeout=WAIT)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return export_page("recogniser", tmp_path_factory.mktemp("page") / "page.html")


@contextmanager
def opened(browser, file, **options):
    """The page in a browser of its own, which fails on errors and on any request."""
    context = browser.new_context(**options)
    context.set_default_timeout(WAIT)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("request", lambda request: faults.append(request.url[:80]))
    page.goto(file.as_uri())
    page.get_by_text(re.compile("^(Ready|可以书写了)")).wait_for()
    yield page
    fetched = [fault for fault in faults if not fault.startswith("data:")]
    assert fetched == [file.as_uri()]
    context.close()


def write(page, strokes, pen) -> None:
    """Draws centre lines with a mouse or a finger, a point at a time."""
    box = page.locator("#drawing").bounding_box()

    def place(x, y):
        return box["x"] + box["width"] * x / 1024, box["y"] + box["height"] * (900 - y) / 1024

    for stroke in strokes:
        points = [place(x, y) for x, y in np.asarray(stroke, float).tolist()]
        steps = [np.linspace(a, b, 6)[1:] for a, b in zip(points, points[1:], strict=False)]
        pen([points[0], *np.concatenate(steps).tolist()])


def mouse(page):
    def draw_stroke(points):
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()

    return draw_stroke


def finger(page):
    session = page.context.new_cdp_session(page)

    def send(kind, *points):
        touches = [{"x": x, "y": y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def draw_stroke(points):
        send("touchStart", points[0])
        for point in points[1:]:
            send("touchMove", point)
        send("touchEnd")

    return draw_stroke


def wait_for_answer(page, character: str) -> float:
    """Waits until the first candidate is the character; returns its probability in percent."""
    first = page.locator("#candidates li:first-child button")
    first.filter(has_text=character).wait_for()
    page.get_by_role("status").filter(has_text=character).wait_for()  # spoken, too
    return float(first.locator(".probability").inner_text().rstrip(" %"))


def screenshot(page, name: str, folder: Path) -> None:
    folder = Path(os.environ.get("HCCR_SCREENSHOTS", folder))
    page.screenshot(path=folder / f"page-{name}.png")


def test_on_a_desktop(browser, file, tmp_path):
    size = {"width": 1000, "height": 740}
    with opened(browser, file, viewport=size, locale="en-GB") as page:
        ten = load_strokes()["十"]
        write(page, ten[:1], mouse(page))
        wait_for_answer(page, "一")  # live: read after one stroke
        write(page, ten[1:], mouse(page))
        assert wait_for_answer(page, "十") > 50
        page.keyboard.press("Control+z")
        wait_for_answer(page, "一")
        page.keyboard.press("Escape")
        page.get_by_text("Ready.").wait_for()
        assert page.locator("#candidates li").count() == 0
        assert page.get_by_role("button", name="Undo").is_disabled()

        page.get_by_label("Thickness").fill("4")
        write(page, YONG, mouse(page))
        assert wait_for_answer(page, "永") > 50
        screenshot(page, "desktop", tmp_path)

        # An image of a file takes the drawing's place, and a stroke takes the image's.
        page.get_by_label("Choose image").set_input_files(image_file(tmp_path, "百"))
        wait_for_answer(page, "百")
        page.get_by_label("Take photo").set_input_files(image_file(tmp_path, "五"))
        wait_for_answer(page, "五")
        for event, character in (("paste", "万"), ("drop", "九")):
            hand_over(page, event, image_file(tmp_path, character))
            wait_for_answer(page, character)
        page.get_by_label("Choose image").set_input_files(__file__)
        page.get_by_text("no image this browser can show").wait_for()
        write(page, ten[:1], mouse(page))
        wait_for_answer(page, "一")

        # By keys alone: each control in order, and candidates by number.
        page.locator("#language").focus()
        reached = []
        for _ in range(5):
            page.keyboard.press("Tab")
            reached.append(page.locator(":focus").get_attribute("id"))
        assert reached == ["undo", "clear", "thickness", "file", "camera"]
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.keyboard.press("1")
        page.get_by_text("一 copied.").wait_for()

        page.get_by_role("button", name="中文").click()
        page.get_by_role("heading", name="手写汉字识别").wait_for()


def hand_over(page, event: str, file: Path) -> None:
    """Pastes or drops a file, as browsers tell pages of it."""
    made = """([event, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
      const [kind, key] =
        event === "drop" ? [DragEvent, "dataTransfer"] : [ClipboardEvent, "clipboardData"];
      document.body.dispatchEvent(new kind(event, { [key]: data, bubbles: true }));
    }"""
    page.evaluate(made, [event, list(file.read_bytes())])


def image_file(folder: Path, character: str) -> Path:
    image = gridded(on_paper(character))
    cv2.imwrite(str(folder / "image.png"), image[..., ::-1])
    return folder / "image.png"


def test_on_a_telephone_in_chinese_and_the_dark(browser, file, tmp_path):
    telephone = {
        "viewport": {"width": 360, "height": 740},
        "device_scale_factor": 2,
        "has_touch": True,
        "is_mobile": True,
        "locale": "zh-CN",
    }
    with opened(browser, file, **telephone, color_scheme="light") as page:
        # Nothing is wider than the screen, and all that drawing takes is seen at once.
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        place = page.locator("#drawing").bounding_box()
        write(page, YONG, finger(page))
        assert wait_for_answer(page, "永") > 50
        assert page.locator("#drawing").bounding_box() == place  # no answer moves the pen
        clear = page.get_by_role("button", name="清空")
        assert clear.bounding_box()["y"] + clear.bounding_box()["height"] <= 740
        screenshot(page, "telephone", tmp_path)
        page.emulate_media(color_scheme="dark")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", ground)[:3])) < 60
        screenshot(page, "telephone-dark", tmp_path)
