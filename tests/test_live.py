"""The page on which a policy acts."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from common import ROOT

import evaluate
from sim.env import TaskEnv
from sim.record import EVALUATION_SEEDS
from tools.live import play
from videopolicy import VideoPolicy

TASK = "TurnOffSinkFaucet"


@pytest.fixture(scope="module")
def policy():
    return VideoPolicy.load(ROOT / "checkpoints" / "faucet" / "policy.pt")


def test_what_is_shown_is_what_is_evaluated(policy):
    """Catches a page on which a policy does better or worse than in evaluate.py, in the same scene."""
    env = TaskEnv(TASK)
    *shown, last = play(policy, env, 2, "none", "", passes=1, execute=16)
    episode, *_ = evaluate.rollout(env, policy, EVALUATION_SEEDS + 2, evaluate.EvalConfig())
    assert last["text"] == f"{'success' if episode.success else 'no success'} after {episode.steps} steps"
    assert all(event["picture"] and event["prompt"] == "turn off the sink faucet" for event in shown)
    other = next(play(policy, env, 2, "none", "open the drawer", passes=1, execute=16))
    assert other["picture"] != shown[0]["picture"]  # another sentence, another dream


def test_the_page_streams_an_episode_to_this_machine_alone():
    """Catches a page that cannot be served, an answer to a page from elsewhere, and a wrong choice that ends it."""
    words = [sys.executable, "-m", "tools.live", "--port", "0"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        try:
            page = urllib.request.urlopen(address, timeout=30).read().decode()
            assert "EventSource" in page and address.startswith("http://127.0.0.1:")
            choices = json.loads(urllib.request.urlopen(address + "/choices", timeout=30).read())
            assert choices["tasks"][TASK]["trained"] and not choices["tasks"]["StackCups"]["trained"]
            strange = urllib.request.Request(address, headers={"Host": "example.org"})
            for asked, status in ((strange, 403), (f"{address}/episode?task=Fly&scene=0", 400)):
                with pytest.raises(urllib.error.HTTPError) as caught:
                    urllib.request.urlopen(asked, timeout=30)
                assert caught.value.code == status
            query = f"/episode?task={TASK}&scene=1&shift=none&passes=1&execute=16&prompt="
            with urllib.request.urlopen(address + query, timeout=120) as stream:
                events = [json.loads(line[6:]) for line in stream if line.startswith(b"data: ")]
            assert "picture" in events[0] and events[-1]["done"] and "steps" in events[-1]["text"]
        finally:
            server.terminate()
    assert server.returncode == 143
