"""The page: its elements, and the handlers of its buttons."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import soundfile

from separator.data.example import SAMPLE_RATE, make_example
from separator.errors import ConfigError, check_number
from separator.html import player
from separator.inference.checks import chosen_stems
from separator.inference.separation import OVERLAP, SEGMENT_SECONDS
from separator.io import stem_files
from separator.io.formats import OFFERED
from separator.web import live_socket
from separator.web.jobs import Job, Options, Recording, State
from separator.web.results import save_all
from separator.web.server import SCRIPTS
from separator.web.site import Site
from separator.web.store import NO_UPLOAD, Store

STYLE = (Path(__file__).parent / "layout.css").read_text(encoding="utf-8")
HEAD = (
    "".join(f'<script src="separator/{name}.js" defer></script>' for name in SCRIPTS)
    + '<meta name="color-scheme" content="light dark"><meta name="description" content="Separate voices in recordings">'
)
# Maximum number of recordings per job.
MAX_FILES = 100
# Interval between updates of the progress.
TICK_SECONDS = 0.3
# Ranges of the options. They are within those of `separate`. They limit the memory and keep the stop button fast.
SEGMENTS, OVERLAPS, SHIFTS = (1.0, 60.0), (0.0, 0.75), (1, 16)
WORKING = '<progress aria-label="Working"></progress>'
FORMATS = {container.label: suffix for suffix, container in OFFERED.items()}
DEPTHS = {"same as the recording": None, "24 bit": "PCM_24", "32-bit float": "FLOAT"}
EXAMPLE, MICROPHONE = "example.wav", "microphone.wav"


def theme() -> gr.themes.Base:
    """Return the theme: colours, and the fonts of the reader's machine."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"),
        font_mono=("ui-monospace", "Consolas", "monospace"),
    ).set(
        # Darker than the default, for enough contrast.
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
    )


def make_page(site: Site, max_megabytes: float) -> gr.Blocks:
    """Return the page of a site. `max_megabytes` is the maximum size of an upload."""
    handlers = Handlers(site)
    with gr.Blocks(title="separator", analytics_enabled=False) as page:
        gr.HTML(
            '<div class="intro"><h1>Separate voices</h1><p>Drop a recording in which several people talk at once. You '
            "get one file for each voice. Files stay on this machine and are deleted after an hour.</p></div>"
        )
        with gr.Tabs():
            with gr.Tab("Recordings"):
                inputs, settings = _choices(site, max_megabytes)
                with gr.Row(elem_classes="buttons"):
                    start = gr.Button("Separate", variant="primary", elem_id="start")
                    example = gr.Button("Try an example", elem_id="example")
                    stop = gr.Button("Stop", interactive=False, elem_id="stop")
                status = gr.HTML(elem_classes="told", elem_id="told")
                found = gr.HTML(elem_classes="results", elem_id="results")
            with gr.Tab("Live"):
                gr.HTML(live_socket.markup([choice.name for choice in site.models if choice.can_stream]))
        outputs = [status, found, start, example, stop]
        # No limit in Gradio: visitors wait in our own queue, which shows their place in it.
        start.click(handlers.separate, [*inputs, *settings], outputs, show_progress="hidden", concurrency_limit=None)
        example.click(handlers.separate_example, settings, outputs, show_progress="hidden", concurrency_limit=None)
        stop.click(handlers.stop, None, None, show_progress="hidden", concurrency_limit=None)
        page.unload(handlers.leave)
    # Number of visitors whose last page contents Gradio keeps.
    page.state_session_capacity = 100
    return page


def _take_only_uploads(component: gr.components.Component, store: Store) -> None:
    """Restrict a component to uploads. Gradio would copy any local file and fetch any URL that a request names."""
    keep = component.async_move_resource_to_block_cache

    async def keep_uploads(place: str | Path | None) -> str | None:
        if place is not None and not store.is_upload(place):
            raise gr.Error(NO_UPLOAD, print_exception=False)
        return await keep(place)

    component.async_move_resource_to_block_cache = keep_uploads  # type: ignore[assignment]


def _choices(site: Site, max_megabytes: float) -> tuple[list, list]:
    """Build the inputs (recordings) and the settings."""
    max_minutes = site.worker.max_seconds / 60
    models = [(choice.label, choice.name) for choice in site.models]
    with gr.Row(equal_height=False):
        with gr.Column(scale=3):
            files = gr.File(
                label=f"Up to {max_megabytes:g} MB and {max_minutes:g} minutes each",
                file_count="multiple",
                height=170,
                elem_id="files",
            )
            with gr.Accordion("Record with the microphone", open=False):
                microphone = gr.Audio(
                    sources=["microphone"], type="filepath", label="Microphone", buttons=[], elem_id="microphone"
                )
        with gr.Column(scale=2):
            model = gr.Dropdown(models, value=site.models[0].name, label="Model", elem_id="model", filterable=False)
            with gr.Accordion("More options", open=False):
                container = gr.Dropdown(list(FORMATS), label="File format", filterable=False)
                depth = gr.Dropdown(list(DEPTHS), label="Sample format", filterable=False)
                segment = gr.Number(
                    SEGMENT_SECONDS,
                    label="Segment (seconds)",
                    info=f"chunk length; default: {SEGMENT_SECONDS:g}; a lower value saves memory",
                )
                overlap = gr.Number(
                    OVERLAP,
                    label="Overlap",
                    info=f"overlap of neighbouring chunks, as a fraction of a chunk; default: {OVERLAP:g}",
                )
                shifts = gr.Number(
                    1,
                    label="Shifts",
                    info="number of averaged passes; default: 1; 4 give better results and take 4 times as long",
                    precision=0,
                )
                stems = gr.Textbox(label="Stems", info="names such as speaker1, speaker2; empty for all", max_lines=1)
    _take_only_uploads(files, site.store)
    _take_only_uploads(microphone, site.store)
    return [files, microphone], [model, container, depth, segment, overlap, shifts, stems]


class Handlers:
    """Handlers of the buttons. A handler yields the status text, the results, and the states of the three buttons."""

    def __init__(self, site: Site) -> None:
        self.site = site
        # Session -> its last job.
        self.jobs: dict[str, Job] = {}

    def stop(self, request: gr.Request) -> None:
        """Stop the current job. Finished recordings stay."""
        job = self.jobs.get(request.session_hash or "")
        if job is not None and not job.is_finished:
            job.stop()

    def leave(self, request: gr.Request) -> None:
        """Stop the job of a visitor who closed the page. Finished recordings stay for an hour."""
        self.stop(request)
        self.jobs.pop(request.session_hash or "", None)

    async def separate(
        self, request: gr.Request, paths: list[str] | None, recorded: str | None, *chosen: Any
    ) -> AsyncIterator[tuple]:
        """Separate uploaded files and the microphone recording."""
        uploads = [(path, Path(path).name) for path in paths or []]
        uploads += [(recorded, MICROPHONE)] if recorded else []
        if not uploads:
            text = "Choose a recording first and wait until it is uploaded, or press <b>Try an example</b>."
            yield _note(text), "", *_buttons(True)
            return
        if len(uploads) > MAX_FILES:
            text = f"{len(uploads)} recordings are too many. This page takes {MAX_FILES} at a time. Choose fewer."
            yield _note(text, "alert"), "", *_buttons(True)
            return
        folder = self.site.store.new()
        try:
            kept = [await asyncio.to_thread(self._keep, folder, number, *item) for number, item in enumerate(uploads)]
        except ConfigError as error:
            self.site.store.discard(folder)
            yield _note(html.escape(str(error)), "alert"), "", *_buttons(True)
            return
        async for update in self._run(request, folder, kept, chosen):
            yield update

    def _keep(self, folder: Path, number: int, path: str, name: str) -> Recording:
        return Recording(self.site.store.keep(path, folder, number), name)

    async def separate_example(self, request: gr.Request, *chosen: Any) -> AsyncIterator[tuple]:
        """Separate an example of two generated voices."""
        yield _note("Generating an example...") + WORKING, "", *_buttons(False)
        item = await asyncio.to_thread(make_example)
        folder = self.site.store.new()
        soundfile.write(folder / EXAMPLE, item.mixture.numpy(), SAMPLE_RATE)
        async for update in self._run(request, folder, [Recording(folder / EXAMPLE, EXAMPLE)], chosen):
            yield update

    async def _run(
        self, request: gr.Request, folder: Path, recordings: Sequence[Recording], chosen: Sequence[Any]
    ) -> AsyncIterator[tuple]:
        visitor = request.session_hash or ""
        if (old := self.jobs.pop(visitor, None)) is not None:
            await asyncio.to_thread(self.site.discard, old)
        try:
            job = Job(recordings, self._options(*chosen), folder)
            self.site.submit(job)
        except ConfigError as error:
            self.site.store.discard(folder)
            yield _note(html.escape(str(error)), "alert"), "", *_buttons(True)
            return
        for name, other in list(self.jobs.items()):  # a copy, since visitors leave in other threads
            if not other.folder.exists():
                self.jobs.pop(name, None)
        self.jobs[visitor] = job
        try:
            shown, finished = "", -1
            while not job.is_finished:
                job.keep_alive()
                self.site.store.touch(folder)  # a job may wait for longer than files are kept
                text, done = progress(self.site, job), len(job.outcomes)
                if text != shown or done != finished:
                    yield text, gr.skip() if done == finished else self._results(job), *_buttons(False)
                    shown, finished = text, done
                await asyncio.sleep(TICK_SECONDS)
            yield progress(self.site, job), self._results(job), *_buttons(True)
        finally:  # also runs for a visitor who has left
            if not job.is_finished:
                job.stop()
                self.jobs.pop(visitor, None)

    def _options(
        self,
        model: str,
        container: str,
        depth: str,
        segment: float | None,
        overlap: float | None,
        shifts: int | None,
        stems: str | None = None,
    ) -> Options:
        """Build the options from the settings. Raise `ConfigError` with a text for visitors if a setting is invalid."""
        extension, subtype = FORMATS[container], DEPTHS[depth]
        _, held = stem_files.container_of(Path(f"stem.{extension}"), subtype or "PCM_16")
        if subtype not in (None, held):
            raise ConfigError(f'{container} cannot store {depth} samples. Choose "same as the recording", or WAV.')
        check_number("Segment (seconds)", segment, *SEGMENTS)
        check_number("Overlap", overlap, *OVERLAPS)
        check_number("Shifts", shifts, *SHIFTS)
        assert segment is not None and overlap is not None and shifts is not None
        choice = self.site.choice(model)
        if shifts > 1 and choice.can_stream:
            raise ConfigError(
                f"{choice.name} processes a recording only once. Leave Shifts at 1, or choose another model."
            )
        if choice.can_stream and (segment, overlap) != (SEGMENT_SECONDS, OVERLAP):
            raise ConfigError(
                f"{choice.name} works without chunks. Leave Segment at {SEGMENT_SECONDS:g} and Overlap at "
                f"{OVERLAP:g}, or choose another model."
            )
        names = [name for name in re.split(r"[,\s]+", stems or "") if name]
        if names:
            chosen_stems(names, choice.sources, choice.name)
        return Options(choice.model, segment, overlap, shifts, extension, subtype, tuple(names) or None)

    def _results(self, job: Job) -> str:
        entries = self.site.entries_of(job.folder.name)
        parts = [entry.page for entry in entries]
        if job.is_finished and any(entry.stems for entry in entries):
            parts.append(save_all(job.folder))
        return "".join(parts)


def progress(site: Site, job: Job) -> str:
    """Return the progress of a job as HTML: a text and a progress bar."""
    count = len(job.recordings)
    if job.state is State.STOPPED:
        return _note("Stopped. Unfinished recordings were discarded.")
    if job.state is State.DONE:
        failed = count - sum(outcome.result is not None for outcome in job.outcomes)
        if failed:
            text = (
                "The recording could not be separated:"
                if count == 1
                else f"{failed} of {count} could not be separated."
            )
            return _note(text, "alert")
        return _note(f"Done in {sum(outcome.result.work_seconds for outcome in job.outcomes if outcome.result):.1f} s.")
    if job.state is State.WAITING:
        ahead = site.worker.ahead(job)
        others = "1 visitor is" if ahead == 1 else f"{ahead} visitors are"
        return _note(f"Waiting: {others} ahead of you." if ahead else "Starting.") + WORKING
    which = f"Recording {len(job.outcomes) + 1} of {count}: " if count > 1 else ""
    done, total = job.done_seconds, job.total_seconds
    if job.phase:
        return _note(which + job.phase) + WORKING
    if not total:
        return _note(f"{which}{player.clock(done)} done", "timer") + WORKING
    rest = "" if job.seconds_left is None else f", {player.clock(job.seconds_left + 1)} left"
    text = f"{which}{player.clock(done)} of {player.clock(total)} done{rest}"
    return (
        _note(text, "timer")
        + f'<progress max="{total:.2f}" value="{done:.2f}" aria-label="{html.escape(text)}"></progress>'
    )


def _note(text: str, role: str = "status") -> str:
    return f'<p role="{role}">{text}</p>'


def _buttons(is_idle: bool) -> tuple:
    """Return the states of the buttons: start, example, stop."""
    return gr.Button(interactive=is_idle), gr.Button(interactive=is_idle), gr.Button(interactive=not is_idle)
