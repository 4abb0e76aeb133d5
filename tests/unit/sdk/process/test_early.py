"""Before init, at init, and at a second init."""

from brain_events._process.early import MAX_EVENTS
from tests.support.sdk import run_script
from tests.support.sink import Sink


def test_events_logged_before_init_are_delivered_under_the_source_given_to_init(sink: Sink) -> None:
    done = run_script(
        """
        import brain_events
        brain_events.log_system_event("early", "info", "first", {"n": 1})
        brain_events.log_system_event("early", "info", "second", source="elsewhere")
        brain_events.init(source="shop")
        """,
        sink.url,
    )
    assert done.stderr == ""
    assert [(event.message, event.source) for event in sink.events] == [("first", "shop"), ("second", "elsewhere")]


def test_the_last_256_wait_for_init_and_the_rest_is_counted(sink: Sink) -> None:
    done = run_script(
        """
        import brain_events
        for n in range(300):
            brain_events.log_system_event("early", "info", str(n))
        print(brain_events.stats().dropped, brain_events.stats().in_memory)
        brain_events.init()
        print(brain_events.flush(120), brain_events.stats().logged, brain_events.stats().delivered)
        """,
        sink.url,
    )
    assert done.stdout == "{'before_init': 44} 256\nTrue 300 256\n", done.stderr
    early = [event for event in sink.events if event.event_type == "early"]
    assert [event.message for event in early] == [str(n) for n in range(300 - MAX_EVENTS, 300)]


def test_without_a_url_init_warns_once_and_events_wait_on(sink: Sink) -> None:
    done = run_script(
        f"""
        import brain_events
        brain_events.init()
        brain_events.log_system_event("early", "info", "kept")
        brain_events.init({sink.url!r})
        """
    )
    assert done.stderr == "events are not sent: pass a url to init(), or set BRAIN_EVENTS_URL\n"
    assert [event.message for event in sink.events] == ["kept"]


def test_a_second_init_delivers_what_the_first_still_held(sink: Sink) -> None:
    done = run_script(
        """
        import brain_events
        brain_events.init(source="first", interval_s=3600)
        brain_events.log_system_event("one", "info", "")
        brain_events.init(source="second")
        brain_events.log_system_event("two", "info", "")
        """,
        sink.url,
    )
    assert done.stderr == ""
    assert sorted((event.event_type, event.source) for event in sink.events) == [("one", "first"), ("two", "second")]


def test_arguments_win_over_the_environment(sink: Sink) -> None:
    done = run_script(
        f"""
        import os, brain_events
        os.environ["BRAIN_EVENTS_SOURCE"] = "from the environment"
        os.environ["BRAIN_EVENTS_API_KEY"] = "key from the environment"
        brain_events.init(url={sink.url!r}, source="from the call")
        brain_events.log_system_event("settings", "info", "")
        """,
        "http://127.0.0.1:9",
    )
    assert done.stderr == ""
    assert [event.source for event in sink.events] == ["from the call"]
    assert sink.requests[0].headers["authorization"] == "Bearer key from the environment"
