"""Which tests try which fault of a shared tier on Redis, as they are numbered in reports."""

from __future__ import annotations

from typing import Final, NamedTuple


class Fault(NamedTuple):
    """A fault: what it is, and the tests that have it, each as `file::function`."""

    title: str
    tests: tuple[str, ...]


_NODE = "tests/live/test_redis_connection_faults.py::"
_GROUP = "tests/live/test_redis_topology.py::"
_SHARED = "tests/live/test_redis_coherence.py::"
_CACHE = "tests/live/test_redis_outages.py::"
_PARTS = "tests/live/test_redis_groups.py::"
_NET = "tests/live/test_redis_partitions.py::"
_MANY = "tests/live/test_redis_stampedes.py::"
_CALLER = "tests/live/test_redis_callers.py::"
_SERVE = "tests/live/test_serve_on_redis.py::"
_CRASH = "tests/live/test_write_back_crash.py::"
_ENDS = "tests/live/test_redis_shutdown.py::"
_PROCESSES = "tests/live/test_redis_processes.py::"
_LOADS = "tests/live/test_redis_loads.py::"
_TLS = "tests/unit/tiers/redis/test_redis_tls.py::"
_LOGIN = "tests/unit/tiers/redis/test_redis_address.py::"

FAULTS: Final = {
    "F01": Fault(
        "The server is killed under load and comes back empty",
        (
            _CACHE + "test_a_server_that_is_killed_and_comes_back_empty",
            _SERVE + "test_redis_is_killed_under_a_search",
            _NODE + "test_a_server_that_is_killed_under_load_and_started_again",
            _SHARED + "test_a_server_that_comes_back_empty_brings_nothing_old_back",
        ),
    ),
    "F02": Fault(
        "The server hangs",
        (
            _CACHE + "test_a_server_that_hangs",
            _NODE + "test_a_frozen_server",
            _NODE + "test_a_server_that_was_frozen_when_first_needed",
        ),
    ),
    "F03": Fault(
        "The server is slow: 50 ms to 6 s",
        (
            _CACHE + "test_a_server_that_is_slow",
            _NODE + "test_a_slow_server_costs_no_more_than_the_deadline",
        ),
    ),
    "F04": Fault(
        "The connection is reset in the middle of a reply",
        (_NODE + "test_a_connection_that_is_reset_in_the_middle_of_a_reply",),
    ),
    "F05": Fault(
        "A reply is lost after the server did what it was told",
        (
            _NODE + "test_a_call_whose_reply_is_lost_is_not_sent_again",
            _SHARED + "test_what_the_server_did_is_not_asked_again_when_its_reply_is_lost",
        ),
    ),
    "F06": Fault(
        "Half-open connections",
        (
            _CACHE + "test_a_connection_that_falls_silent",
            _CACHE + "test_an_idle_connection_that_falls_silent_is_noticed",
            _NET + "test_packets_of_connections_are_dropped",
        ),
    ),
    "F07": Fault(
        "A bad link: jitter, cuts, a quarter of the packets lost",
        (
            _CACHE + "test_a_link_that_stutters_and_breaks",
            _NET + "test_a_quarter_of_the_packets_is_lost",
        ),
    ),
    "F08": Fault(
        "The server is out of memory and evicts nothing",
        (
            _CACHE + "test_a_server_without_memory",
            _SHARED + "test_out_of_memory_nobody_reads_what_was_replaced",
        ),
    ),
    "F09": Fault(
        "The server has all the clients that it takes",
        (
            _CACHE + "test_a_server_with_all_the_clients_that_it_takes",
            _NODE + "test_a_server_with_all_the_clients_that_it_takes",
        ),
    ),
    "F10": Fault(
        "Sentinel: the primary is killed or frozen",
        (
            _PARTS + "test_a_primary_is_lost_and_a_replica_takes_its_place",
            _GROUP + "test_a_lost_primary_is_followed",
            _GROUP + "test_twenty_lost_primaries_of_sentinels",
        ),
    ),
    "F11": Fault(
        "Sentinel: a client and the primary are cut off from the replicas and the Sentinels",
        ("tests/live/test_redis_split.py::test_after_a_split_memory_is_that_of_the_new_primary",),
    ),
    "F12": Fault(
        "The primary is demoted",
        (
            _PARTS + "test_a_primary_is_demoted",
            _GROUP + "test_a_demotion_under_load_is_noticed",
        ),
    ),
    "F13": Fault(
        "Cluster: slots move under load",
        (
            _PARTS + "test_slots_move_while_they_are_used",
            _GROUP + "test_resharding_under_load_breaks_nothing",
            _GROUP + "test_ten_reshards",
        ),
    ),
    "F14": Fault(
        "Cluster: a primary is killed",
        (
            _PARTS + "test_a_primary_of_a_cluster_is_killed",
            _GROUP + "test_a_lost_primary_of_a_cluster_costs_its_slots_alone",
            _GROUP + "test_twenty_lost_primaries_of_clusters",
        ),
    ),
    "F15": Fault(
        "Wrong, forbidden or rotated credentials",
        (
            _CACHE + "test_a_password_that_is_rotated",
            _LOGIN + "test_a_password_that_is_rotated",
            _LOGIN + "test_a_wrong_password_fails_at_once_and_is_not_shown",
            _LOGIN + "test_an_acl_user_may_what_it_may",
        ),
    ),
    "F16": Fault(
        "TLS that does not fit",
        (
            _CACHE + "test_a_server_that_speaks_tls_to_one_that_does_not",
            _TLS + "test_an_authority_that_did_not_sign",
            _TLS + "test_a_certificate_out_of_its_dates",
            _TLS + "test_a_certificate_of_another_host",
            _TLS + "test_no_certificate_where_the_server_wants_one",
            _TLS + "test_a_port_that_speaks_no_tls_gets_no_word",
        ),
    ),
    "F20": Fault(
        "Callers that leave in the middle of a command",
        (
            _CALLER + "test_callers_that_leave",
            _NODE + "test_cancelled_calls_mix_nothing_up_and_cost_no_connection",
            _NODE + "test_a_task_group_that_is_broken_off_leaves_the_connection_in_order",
        ),
    ),
    "F21": Fault(
        "The event loop stands still past the time-out",
        (
            _CALLER + "test_a_loop_that_stands_still",
            _NODE + "test_a_loop_that_stood_still_past_the_time_out_mixes_nothing_up",
        ),
    ),
    "F22": Fault(
        "A thousand misses at once in one process", (_MANY + "test_a_thousand_ask_at_once",)
    ),
    "F23": Fault("The same in four processes", (_MANY + "test_processes_ask_at_once",)),
    "F24": Fault(
        "Who loads for all is cancelled, fails, or is killed",
        (
            _MANY + "test_who_leads_leaves_or_fails_and_the_others_are_served",
            _MANY + "test_who_leads_is_killed",
            _LOADS + "test_a_lease_that_nobody_waits_for_is_given_back",
        ),
    ),
    "F25": Fault(
        "Write-back: the process is killed with writes waiting",
        (
            _CRASH + "test_a_killed_process_loses_only_what_waited",
            _CRASH + "test_with_a_journal_a_killed_process_loses_nothing",
            _CRASH + "test_two_hundred_kills",
        ),
    ),
    "F26": Fault(
        "Write-back: Redis is down and the queue is full",
        (
            "tests/live/test_redis_writes_waiting.py::test_a_queue_that_is_full_while_redis_is_down",
        ),
    ),
    "F27": Fault(
        "Coherence of four processes",
        (
            _SHARED + "test_no_process_keeps_what_another_replaced",
            _SHARED + "test_no_process_keeps_it_either_where_nobody_may_track",
            _SHARED + "test_no_process_ever_keeps_what_another_replaced",
        ),
    ),
    "F28": Fault(
        "The same, while processes and the server are killed, frozen and cut off",
        (_PROCESSES + "test_none_keeps_what_another_replaced_whatever_happens",),
    ),
    "F29": Fault(
        "An invalidation overtakes a read or a load",
        (
            _SHARED + "test_a_reply_that_an_invalidation_overtook_is_not_kept",
            _SHARED + "test_none_of_a_thousand_such_replies_is_kept",
            _LOADS + "test_an_invalidation_during_a_load_leaves_nothing_behind",
        ),
    ),
    "F33": Fault(
        "No file descriptor is left",
        (
            _CACHE + "test_a_process_without_a_file_descriptor_left",
            _NODE + "test_a_process_without_a_file_descriptor_left",
        ),
    ),
    "F39": Fault(
        "A fork after use",
        (
            _CALLER + "test_a_fork",
            _SHARED + "test_a_forked_child_is_a_process_of_its_own",
        ),
    ),
    "F40": Fault(
        "Several event loops and threads",
        (
            _CALLER + "test_loops_one_after_the_other_and_side_by_side",
            _SHARED + "test_a_loop_for_each_call_never_serves_what_was_replaced_between_two",
            _SHARED + "test_loops_of_several_threads_share_what_they_know",
        ),
    ),
    "F41": Fault("Huge values", (_CALLER + "test_a_huge_value",)),
    "F58": Fault(
        "SIGTERM under load",
        (
            _ENDS + "test_serve_is_told_to_end_under_load",
            _ENDS + "test_a_service_is_told_to_end_under_load",
            _SERVE + "test_what_waits_to_be_written_is_in_redis_after_sigterm",
        ),
    ),
}

BY_TEST: Final = {test: number for number, fault in FAULTS.items() for test in fault.tests}
