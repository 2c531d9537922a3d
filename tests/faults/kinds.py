"""What can go wrong, kind by kind: what a user sees of it, and the tests that prove it; `make faults` runs them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of fault; `tests`: files, or `file::test` where one test of a file is meant."""

    name: str
    happens: str
    tests: tuple[str, ...]


KINDS = (
    Kind(
        "a checkpoint or a weight file is damaged",
        "Refused by its checksum. `previous.pt` stands beside `last.pt`, and is named.",
        ("tests/faults/test_flips.py", "tests/training/test_checkpoint.py"),
    ),
    Kind(
        "a packed store is damaged",
        "Every clip is compared with its checksum. Training stops and names the part to copy or pack again.",
        ("tests/data/test_store_faults.py",),
    ),
    Kind(
        "files are no sound, never end, or claim what they do not hold",
        "Left out and counted once, with the reason. The others are read, in bounded memory.",
        ("tests/data/test_bad_sounds.py", "tests/data/test_audio.py"),
    ),
    Kind(
        "files have lost their end, or are joined streams",
        "Lost ends are used and named by reading, packing and `embed`. Joined streams are left out and counted.",
        (
            "tests/data/test_bad_sounds.py::test_files_that_lost_their_end_are_kept_and_named",
            "tests/pretrained/test_embedding.py::test_files_that_lost_their_end_and_joined_streams_are_named",
        ),
    ),
    Kind(
        "a process is killed, or its terminal closed",
        "What it started ends with it. The same command goes on, to the same weights or store.",
        (
            "tests/training/test_resume.py::test_a_killed_process_can_be_resumed",
            "tests/training/test_parallel.py::test_processes_end_with_what_started_them",
            "tests/data/test_packing.py::test_killed_again_and_again_it_ends_as_if_nothing_had_happened",
            "tests/book/test_execute.py::test_worker_and_kernel_end_with_the_runner",
        ),
    ),
    Kind(
        "the disk is full, or a folder cannot be written",
        "One line says so. What was written before is whole.",
        (
            "tests/training/test_checkpoint.py::test_a_disk_that_takes_no_more_is_said_in_one_line_and_the_old_file_stays",
            "tests/data/test_packing.py::test_too_small_a_disk_is_said_before_the_start",
            "tests/test_one_line.py::test_outputs_that_cannot_be_written",
        ),
    ),
    Kind(
        "files vanish or change while they are used",
        "Packing and training stop and name the file; what is open is read to its end. Packing again names what is not "
        "as it was.",
        (
            "tests/data/test_store_faults.py::test_a_store_that_is_cut_off_ends_training_in_one_error_and_whole_again_the_run_goes_on",
            "tests/data/test_store_faults.py::test_parts_that_vanish_are_read_to_the_end_and_named_at_the_next_start",
            "tests/training/test_compute.py::test_an_unreadable_clip_stops_at_its_own_step",
            "tests/data/test_store_faults.py::test_files_that_vanish_while_they_are_packed_stop_the_packer",
            "tests/data/test_store_faults.py::test_packing_again_notices_labels_and_rows",
            "tests/data/test_store_faults.py::test_packing_again_notices_other_sound_of_the_same_size_and_date",
        ),
    ),
    Kind(
        "a server sends an error page, less, more, or without end",
        "Refused, and not recorded. The download goes on once the server recovers.",
        ("tests/data_scripts/test_fetch.py", "tests/data_scripts/test_fetch_refused.py"),
    ),
    Kind(
        "an archive is damaged or points outside",
        "Refused, and nothing of it stays.",
        ("tests/data_scripts/test_archives.py",),
    ),
    Kind(
        "a weight file holds code, or weights that no network has",
        "Nothing of it runs. One line names the file and the key.",
        (
            "tests/pretrained/test_published.py::test_pickled_code_never_runs",
            "tests/pretrained/test_published.py::test_pickled_code_in_the_old_format_never_runs",
            "tests/pretrained/test_unfit.py",
        ),
    ),
    Kind(
        "a class or a file has a name that is markup, a formula or script",
        "It is shown as it is written. Nothing of it runs in the page.",
        ("tests/book/test_words.py", "tests/faults/test_hostile_pages.py"),
    ),
    Kind(
        "a folder has another layout than it seems, a table loses cells",
        "Known layouts are read or named with the script that prepares them. Lost cells are refused with the line.",
        ("tests/data/test_layouts.py",),
    ),
    Kind(
        "there are too few clips or classes for a chapter",
        "The chapter says so in its first cells and on its page. The book is built from the others.",
        ("tests/book/test_few_clips.py",),
    ),
    Kind(
        "a setting, a parameter or a notebook is wrong",
        "One line, before anything runs: the name, the value, and what is allowed. A batch that does not fit is named, "
        "too.",
        (
            "tests/test_one_line.py",
            "tests/common/test_ranges.py",
            "tests/common/test_parameters.py",
            "tests/experiments/test_settings.py::test_a_value_of_another_type_is_an_error",
            "tests/common/test_devices.py::test_a_device_that_is_not_here_is_refused_before_data_are_read",
            "tests/training/test_loop.py::test_a_batch_that_does_not_fit_into_memory_is_named",
        ),
    ),
    Kind(
        "a job starts from an unfinished job, or one of the wrong kind",
        "Refused, and the job that it needs is named.",
        (
            "tests/experiments/test_jobs.py::test_an_unfinished_run_is_not_started_from",
            "tests/experiments/test_jobs.py::test_a_run_of_the_wrong_kind_is_not_started_from",
            "tests/experiments/test_jobs.py::test_spoiled_weights_are_not_started_from",
        ),
    ),
    Kind(
        "clips of many lengths stand in one batch",
        "Padding is no sound: every statistic takes the lengths.",
        ("tests/test_frontends.py::test_a_batch_of_padded_clips_fits_as_the_clips_alone",),
    ),
    Kind(
        "a package is replaced by another one of its name",
        "The lock with checksums refuses it. The README has the command that looks for known vulnerabilities.",
        (
            "tests/test_project.py::test_the_lock_with_checksums_has_the_same_versions_and_the_build_tools",
            "tests/test_project.py::test_the_scripts_that_come_along_are_those_that_were_looked_at",
        ),
    ),
)  # fmt: skip
