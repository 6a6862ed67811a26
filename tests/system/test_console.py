"""The console in a real browser, on a real cluster with authentication. The tests share one page.

What a page of another site can do is in `test_browser.py`.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from synap import __version__
from tests.browser import Watched, chromium, grave_findings
from tests.command_line import synap_here
from tests.console_page import PASSWORD, focus_on, log_in, show
from tests.integration.http.api.test_auth import As, basic, bearer
from tests.support import HOST, Answer, Cluster

ROOMS = ("cluster", "charts", "keys", "changes", "operations")
# What a room has when its answers are there.
CONTENT = "main .card, main .chart, main .rows, main .changes, main .empty, main .box"
HOSTILE = "<img src=x onerror=\"alert('key')\">"
VALUES = Path(__file__).with_name("console_values.js")
EVERYTHING = [{"action": "all", "resource": "*"}]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = {
        "auth__enabled": True, "auth__root__password": PASSWORD, "console__write": True,
        "replication__heartbeat_interval_ms": 200, "replication__replica_timeout_secs": 1,
    }  # fmt: skip
    with Cluster(tmp_path_factory.mktemp("console"), replicas=1, **settings) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def key(cluster: Cluster) -> str:
    """Return an API key for everything, which costs no hash."""
    return As(cluster.master, basic("root")).key("root's", permissions=EVERYTHING)[0]


@pytest.fixture(scope="module")
def root(cluster: Cluster, key: str) -> As:
    return As(cluster.master, bearer(key))


@pytest.fixture(scope="module")
def watched(cluster: Cluster) -> Iterator[Watched]:
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        watched = Watched(context.new_page())
        watched.page.goto(f"http://{HOST}:{cluster.master.port}/console")
        log_in(watched.page)
        yield watched


@pytest.fixture
def page(watched: Watched) -> Page:
    # What is drawn of a tab behind others comes late.
    watched.page.bring_to_front()
    return watched.page


@pytest.fixture(scope="module")
def replica_page(cluster: Cluster, watched: Watched) -> Page:
    """Return a page of the replica's."""
    page = watched.page.context.new_page()
    page.goto(f"http://{HOST}:{cluster.replicas[0].port}/console")
    log_in(page)
    return page


def scans_of(watched: Watched) -> list[str]:
    return [url for url in watched.asked if "/kv/scan?" in url]


def put(root: As, key: str, value: Any) -> Answer:
    answer = root.post("/kv/set", {"key": key, "value": value})
    assert answer.status == 200
    return answer


def test_page_and_its_files_are_open_and_have_a_policy(cluster: Cluster) -> None:
    node = cluster.master
    for path in ("/console", "/console/app.js", "/console/vendor/preact.js"):
        answer = node.request("GET", path)
        assert answer.status == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'" in policy
        assert "connect-src 'self'; frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        known = {"If-None-Match": answer.headers["etag"]}
        assert node.request("GET", path, None, known).status == 304
    assert node.request("GET", "/console/nothing.js").status == 404
    assert node.request("GET", "/cluster").status == 401


def test_wrong_password_is_told_and_keeps_nothing(cluster: Cluster, watched: Watched) -> None:
    page = watched.page.context.new_page()
    page.goto(f"http://{HOST}:{cluster.master.port}/console")
    page.get_by_label("User", exact=True).fill("root")
    page.get_by_label("Password", exact=True).fill("wrong wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not know this user and password")
    assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == [
        "", 0, 0,
    ]  # fmt: skip
    page.close()


def test_cards_show_every_member_and_whether_the_master_may_die(page: Page, root: As) -> None:
    put(root, "some", "value")
    show(page, "cluster")
    master, replica = page.get_by_label("master", exact=True), page.get_by_label("replica1")
    expect(master).to_contain_text("this node")
    expect(master).to_contain_text("takes writes")
    expect(replica).to_contain_text("keeps up with its master")
    place = root.get("/kv/get/some").headers["x-synap-position"]
    for card in (master, replica):
        for fact in (f"Version{__version__}", f"Position{place}", "Newest snapshot"):
            expect(card).to_contain_text(fact)
    loss = page.get_by_label("May the master die now?")
    expect(loss).to_contain_text("Yes")
    expect(loss.get_by_role("row", name=re.compile("1 replica"))).to_contain_text("none")


def test_lag_of_a_stopped_replica_is_shown(page: Page, cluster: Cluster, root: As) -> None:
    show(page, "cluster")
    owner = cluster.replicas[0].owner_pid()
    os.kill(owner, signal.SIGSTOP)
    try:
        for number in range(5):
            put(root, f"late:{number}", "value")
        card = page.get_by_label("replica1")
        expect(card).to_contain_text("5 entries")
        expect(card).to_contain_text("disconnected")
        loss = page.get_by_label("May the master die now?")
        expect(loss).to_contain_text("this node alone has its newest entries")
    finally:
        os.kill(owner, signal.SIGCONT)
    expect(card).to_contain_text("in_sync")


def test_tree_goes_down_by_folders_to_a_value(page: Page, watched: Watched, root: As) -> None:
    for number in range(3):
        put(root, f"user:{number}:name", {"first": "Ann", "number": number})
    before = len(scans_of(watched))
    show(page, "keys")
    rows = page.get_by_role("list")
    rows.get_by_role("button", name="user:").click()
    rows.get_by_role("button", name="1:").click()
    rows.get_by_role("button", name="name").click()
    value = page.get_by_label("Value")
    expect(value).to_have_text('{\n  "first": "Ann",\n  "number": 1\n}')
    page.get_by_role("button", name="Hex").click()
    expect(value).to_contain_text("7b 22 66 69")
    # A page for each click, and no more.
    assert [re.findall(r"limit=(\d+)", url) for url in scans_of(watched)[before:]] == [["1000"]] * 3
    page.get_by_role("navigation", name="Folders above").get_by_text("all keys").click()
    expect(rows.get_by_role("button", name="user:")).to_be_visible()


def test_markup_in_keys_and_values_is_text(page: Page, watched: Watched, root: As) -> None:
    show(page, "changes")
    expect(page.get_by_text("following")).to_be_visible()
    put(root, HOSTILE, HOSTILE)
    expect(page.get_by_role("row").get_by_text(HOSTILE)).to_have_count(2)
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    expect(page.get_by_label("Value")).to_have_text(HOSTILE)
    assert page.locator("img").count() == 0
    assert watched.dialogs == []


def test_conflict_of_an_edit_is_shown_and_nothing_overwritten(page: Page, root: As) -> None:
    put(root, "edited", "one\ntwo\nthree")
    show(page, "keys/edited")
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Value").fill("one\nmine\nthree")
    page.get_by_role("button", name="Review").click()
    difference = page.get_by_label("What changes")
    expect(difference.locator(".gone")).to_have_text(["−two"])
    expect(difference.locator(".new")).to_have_text(["+mine"])
    put(root, "edited", "one\ntheirs\nthree")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("Somebody changed this key meanwhile")
    assert root.get("/kv/get/edited").json() == "one\ntheirs\nthree"
    expect(difference.locator(".gone")).to_have_text(["−theirs"])
    page.get_by_role("button", name="Save over the new value").click()
    expect(page.get_by_label("Value")).to_have_text("one\nmine\nthree")
    assert root.get("/kv/get/edited").json() == "one\nmine\nthree"


def test_all_of_a_folder_is_deleted_after_its_number_was_typed(page: Page, root: As) -> None:
    for number in range(3):
        put(root, f"old:{number}", "value")
    put(root, "older", "value")
    show(page, "keys/old:1")
    page.get_by_label("Begin with").fill("old:")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("button", name="Delete all of this").click()
    window = page.get_by_role("dialog")
    expect(window.get_by_label("What would be deleted").get_by_role("listitem")).to_have_count(3)
    button = window.get_by_role("button", name="Delete 3 keys")
    window.get_by_role("textbox").fill("4")
    expect(button).to_be_disabled()
    window.get_by_role("textbox").fill("3")
    button.click()
    expect(window.get_by_role("status")).to_have_text("3 keys deleted.")
    page.keyboard.press("Escape")
    assert root.get("/kv/scan?prefix=old").json()["keys"] == ["older"]


def test_feed_that_was_paused_tells_what_happened_meanwhile(page: Page, root: As) -> None:
    show(page, "changes")
    page.get_by_label("The text").fill("heard:")
    page.get_by_role("button", name="Follow").click()
    expect(page.get_by_text("following")).to_be_visible()
    put(root, "heard:1", "first")
    expect(page.get_by_role("row", name=re.compile("heard:1"))).to_contain_text("first")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused", exact=True)).to_be_visible()
    put(root, "heard:2", "second")
    put(root, "unheard", "third")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("row", name=re.compile("heard:2"))).to_contain_text("second")
    expect(page.get_by_role("row", name=re.compile("unheard"))).to_have_count(0)


def test_operations_tell_what_they_did_and_no_secret(
    page: Page, cluster: Cluster, key: str
) -> None:
    show(page, "operations")
    page.get_by_role("button", name="Take a snapshot").click()
    expect(page.get_by_label("Snapshot").get_by_role("status")).to_contain_text("durable")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download a backup").click()
    assert re.fullmatch(r"synap-master-\d+\.backup", download.value.suggested_filename)
    for title in ("Slow requests", "Connections", "Users and API keys", "Configuration in effect"):
        page.get_by_text(title).click()
    expect(page.get_by_role("row", name="auth.root.password")).to_contain_text("****")
    expect(page.get_by_role("row", name="root's")).to_contain_text("all *")
    expect(page.get_by_role("region", name="Address")).to_contain_text(HOST)
    text = page.locator("body").inner_text()
    assert PASSWORD not in text
    assert key not in text
    expect(page.get_by_label("Command")).to_contain_text("--to=replica1")


def test_replica_shows_what_its_master_tells(replica_page: Page, root: As) -> None:
    assert root.post("/snapshot", {}).status == 200
    show(replica_page, "cluster")
    card = replica_page.get_by_label("master", exact=True)
    expect(card).to_contain_text("is heard by this replica")
    expect(card).to_contain_text(f"Version{__version__}")
    expect(card).to_contain_text(re.compile("Newest snapshot[0-9.]+ .*ago"))
    assert root.post("/replication/pause", {"seconds": 60}).status == 200
    expect(card).to_contain_text("holds writes back for a switchover")
    assert root.post("/replication/resume").status == 200
    expect(card).not_to_contain_text("holds writes back")


def test_lies_of_a_node_are_shown_as_text_and_end_no_page(page: Page) -> None:
    long, huge = HOSTILE + "x" * 10_000, HOSTILE + "x" * 1_000_000
    named = {"node_id": long, "url": f"javascript:{long}", "state": long}
    of_master = {**named, "role": "master", "note": huge, "offset": long, "version": [1]}
    members: Any = [of_master, {**named, "role": "replica"}, {"role": "replica"}]
    told: dict[str, Any] = {"node_id": "master", "role": "master", "members": members}
    liar = Watched(page.context.new_page())
    replica = {"id": long, "status": "in_sync", "offset": long}
    answers = {
        "**/settings.json": {"login": False, "write": True},
        "**/replication": {"node_id": "m", "role": "master", "replicas": [replica]},
        "**/cluster": told,
    }
    for path, answer in answers.items():
        liar.page.route(path, lambda route, _, answer=answer: route.fulfill(json=answer))
    liar.page.goto(f"{page.url.partition('#')[0]}#cluster")
    expect(liar.page.get_by_role("article")).to_have_count(3)
    assert len(liar.page.locator("main").inner_text()) < 10_000
    told["members"] = 7
    expect(liar.page.get_by_role("alert")).to_contain_text("this page can't show")
    show(liar.page, "operations")
    expect(liar.page.get_by_label("Command")).to_contain_text("synap switchover")
    assert liar.page.evaluate("document.documentElement.scrollWidth") == 1200
    assert liar.dialogs == []
    assert liar.page.locator("main img, main a[href^=javascript]").count() == 0
    liar.page.close()


def test_room_of_keys_whose_node_is_away_says_so_and_asks_again(page: Page, root: As) -> None:
    put(root, "some", "value")
    show(page, "cluster")
    page.route("**/kv/scan?*", lambda route: route.abort())
    show(page, "keys")
    expect(page.get_by_role("alert")).to_contain_text("The node does not answer")
    expect(page.locator("main .empty, main .rows")).to_have_count(0)
    page.unroute("**/kv/scan?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("main .rows")).to_be_visible()


def test_loss_of_a_change_of_role_is_the_nodes_own_list(
    replica_page: Page, cluster: Cluster
) -> None:
    show(replica_page, "operations")
    replica_page.get_by_role("button", name="Promote").click()
    alert = replica_page.get_by_label("Promote").get_by_role("alert")
    expect(alert).to_contain_text("would lose something")
    expect(alert.get_by_role("listitem").first).to_be_visible()
    button = alert.get_by_role("button", name="Promote, and lose it")
    expect(button).to_be_disabled()
    alert.get_by_role("textbox").fill("replica1")
    expect(button).to_be_enabled()
    assert cluster.replicas[0].request("GET", "/health").json()["role"] == "replica"


def test_key_that_is_revoked_ends_at_the_login(page: Page, cluster: Cluster, root: As) -> None:
    made, key_id = root.key("short", permissions=EVERYTHING)
    other = page.context.new_page()
    other.goto(f"http://{HOST}:{cluster.master.port}/console#cluster")
    other.get_by_role("button", name="API key").click()
    other.get_by_label("API key", exact=True).fill(made)
    other.keyboard.press("Enter")
    expect(other.get_by_label("master", exact=True)).to_contain_text("takes writes")
    assert root.delete(f"/auth/keys/{key_id}").status == 200
    expect(other.get_by_role("alert")).to_contain_text("no longer takes your credentials")
    other.close()


def test_charts_are_drawn_of_what_the_node_counted(page: Page) -> None:
    show(page, "charts")
    expect(page.get_by_role("img", name="Time of requests, the last ten minutes")).to_be_visible()
    expect(page.locator(".plot canvas")).to_have_count(6)
    expect(page.get_by_text("replica1")).to_contain_text("0")


def test_parts_that_know_no_page_make_the_right_of_values(page: Page) -> None:
    assert page.evaluate(VALUES.read_text()) == {
        "difference": [" a", "+x", " b", "-c"],
        "hex": f"00000000  {'41 00 ff':47}  A..",
        "digits": [True, False, False],
        "quantile": pytest.approx(9.82),
        "empty": None,
        "rates": [5, None],
        "copies": [[1, 0], [2, 3]],
        "key": r"a\u202eb\u000ac",
    }


def test_page_without_write_shows_nothing_that_changes(page: Page, watched: Watched) -> None:
    def answer(route: Any) -> None:
        route.fulfill(json={"login": True, "write": False, "version": "0"})

    other = page.context.new_page()
    other.route("**/console/settings.json", answer)
    other.goto(page.url)
    log_in(other)
    show(other, "keys/edited")
    expect(other.get_by_label("Value")).to_be_visible()
    words = " ".join(other.get_by_role("button").all_inner_texts())
    assert not re.search("Edit|Delete|New", words)
    other.close()


def test_rooms_have_no_grave_fault_of_accessibility(page: Page) -> None:
    """All rules in the light; in the dark, where the colours alone are others, theirs."""
    for room in (*ROOMS, "keys/edited"):
        show(page, room)
        expect(page.locator(CONTENT).first).to_be_visible()
        assert grave_findings(page) == [], room
        page.emulate_media(color_scheme="dark")
        assert grave_findings(page, "color-contrast") == [], f"{room} in the dark"
        page.emulate_media(color_scheme="light")


def test_rooms_fit_on_a_narrow_screen(page: Page, root: As) -> None:
    put(root, "long:" + "name" * 100, "word" * 100)
    page.set_viewport_size({"width": 360, "height": 700})
    for room in (*ROOMS, "keys/long:" + "name" * 100):
        show(page, room)
        expect(page.locator(CONTENT).first).to_be_visible()
        if room.startswith("keys/"):
            expect(page.get_by_label("Value")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360, room
    page.set_viewport_size({"width": 1200, "height": 800})


def test_key_is_found_and_read_by_the_keyboard_alone(page: Page, root: As) -> None:
    put(root, "board:1", "by keys")
    show(page, "cluster")
    page.reload()
    expect(page.get_by_label("User", exact=True)).to_be_focused()
    page.keyboard.type("root")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("navigation", name="Rooms")).to_be_visible()
    focus_on(page, "Keys")
    page.keyboard.press("Enter")
    expect(page.locator(".rows")).to_be_visible()
    focus_on(page, "board:")
    page.keyboard.press("Enter")
    expect(page.get_by_role("list").get_by_role("button", name="1")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Value")).to_have_text("by keys")


def test_page_asked_its_own_node_alone_and_broke_no_rule(
    watched: Watched, cluster: Cluster
) -> None:
    own = f"http://{HOST}:{cluster.master.port}/"
    assert [each for each in watched.asked if not each.startswith(own)] == []
    assert [each for each in watched.complaints if "Security Policy" in each] == []
    assert [each for each in watched.complaints if "Failed to load" not in each] == []


def test_switchover_is_seen(page: Page, cluster: Cluster, key: str) -> None:
    show(page, "cluster")
    expect(page.get_by_label("master", exact=True)).to_contain_text("takes writes")
    urls = [f"http://{HOST}:{node.port}" for node in cluster.nodes]
    done = synap_here(
        "switchover", "--to", "replica1", "--url", urls[0], "--url", urls[1],
        SYNAP_API_KEY=key,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = page.get_by_label("master", exact=True)
    expect(card).to_contain_text("replica, this node")
    expect(card).to_contain_text("in_sync")
    expect(page.get_by_label("May the master die now?")).to_contain_text("Yes")
