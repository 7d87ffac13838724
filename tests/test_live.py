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


def test_the_page_shows_what_is_evaluated():
    """Catches a page on which a policy does better or worse than in evaluate.py, in the same scene."""
    policy, env = VideoPolicy.load(ROOT / "checkpoints" / "faucet" / "policy.pt"), TaskEnv(TASK)
    *shown, last = play(policy, env, 2, "none", "", steps=0, execute=32)
    episode, *_ = evaluate.rollout(env, policy, EVALUATION_SEEDS + 2, evaluate.EvalConfig())
    assert last["text"] == f"{'success' if episode.success else 'no success'} after {episode.steps} steps"
    assert all(event["picture"] and event["prompt"] == "turn off the sink faucet" for event in shown)
    other = next(play(policy, env, 2, "none", "open the drawer", steps=0, execute=32))
    assert other["picture"] != shown[0]["picture"]  # another prompt, another video
    env.close()


def test_the_page_streams_an_episode_to_this_machine_alone():
    """Catches a page that cannot be served, an answer to another site's page, and a bad choice that stops it."""
    words = [sys.executable, "-m", "tools.live", "--port", "0"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        try:
            page = urllib.request.urlopen(address, timeout=30).read().decode()
            assert "EventSource" in page and address.startswith("http://127.0.0.1:")
            choices = json.loads(urllib.request.urlopen(address + "/choices", timeout=30).read())
            assert choices["tasks"][TASK]["trained"] and not choices["tasks"]["StackCups"]["trained"]
            query = f"{address}/episode?task={TASK}&scene=1&shift=none&steps=0&execute=16&prompt="
            elsewhere = urllib.request.Request(address, headers={"Host": "example.org"})
            bad = [query.replace(*pair) for pair in ((TASK, "Fly"), ("scene=1", "scene=x"), ("steps=0", "steps=-1"))]
            for request, status in ((elsewhere, 403), *((url, 400) for url in bad)):
                with pytest.raises(urllib.error.HTTPError) as caught:
                    urllib.request.urlopen(request, timeout=30)
                assert caught.value.code == status
            with urllib.request.urlopen(query, timeout=120) as stream:
                events = [json.loads(line[6:]) for line in stream if line.startswith(b"data: ")]
            assert "picture" in events[0] and events[-1]["done"] and "steps" in events[-1]["text"]
        finally:
            server.terminate()
    assert server.returncode == 143
