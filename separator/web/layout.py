"""The page: what is on it, and what happens when something is pressed."""

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
from separator.web import live_socket
from separator.web.jobs import Job, Options, Recording, State
from separator.web.results import save_all
from separator.web.server import SCRIPTS
from separator.web.site import Site
from separator.web.store import NO_UPLOAD, Store

STYLE = (Path(__file__).parent / "layout.css").read_text(encoding="utf-8")
HEAD = (
    "".join(f'<script src="separator/{name}.js" defer></script>' for name in SCRIPTS)
    + '<meta name="color-scheme" content="light dark"><meta name="description" content="Voices of a recording, apart">'
)
# Recordings that are separated at a time.
MAX_FILES = 100
# How often a visitor is told how far it is.
TICK_SECONDS = 0.3
# Pieces of a recording: what `separate` takes, within what keeps memory bounded and a stop button quick.
SEGMENTS, OVERLAPS, SHIFTS = (1.0, 60.0), (0.0, 0.75), (1, 16)
WORKING = '<progress aria-label="Working"></progress>'
FORMATS = {"WAV": "wav", "FLAC": "flac", "Ogg Vorbis": "ogg", "MP3": "mp3"}
DEPTHS = {"as the recording": None, "24 bit": "PCM_24", "32-bit float": "FLOAT"}
EXAMPLE, MICROPHONE = "example.wav", "microphone.wav"


def theme() -> gr.themes.Base:
    """Colours, and the fonts of the reader's own machine."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"),
        font_mono=("ui-monospace", "Consolas", "monospace"),
    ).set(
        # Dark enough to be read.
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
    )


def make_page(site: Site, largest_megabytes: float) -> gr.Blocks:
    """The page of a site; `largest_megabytes` are those of an upload."""
    visit = Visit(site)
    with gr.Blocks(title="separator", analytics_enabled=False) as page:
        gr.HTML(
            '<div class="intro"><h1>Voices apart</h1><p>Drop a recording in which people talk at once, and get one '
            "file for each. Files stay on this machine, for an hour at most.</p></div>"
        )
        with gr.Tabs():
            with gr.Tab("Recordings"):
                what, how = _choices(site, largest_megabytes)
                with gr.Row(elem_classes="buttons"):
                    start = gr.Button("Separate", variant="primary", elem_id="start")
                    example = gr.Button("Try an example", elem_id="example")
                    stop = gr.Button("Stop", interactive=False, elem_id="stop")
                told = gr.HTML(elem_classes="told", elem_id="told")
                shown = gr.HTML(elem_classes="results", elem_id="results")
            with gr.Tab("Live"):
                gr.HTML(live_socket.markup([choice.name for choice in site.models if choice.can_stream]))
        outputs = [told, shown, start, example, stop]
        # Visitors wait in our own queue, which can say who is before them.
        start.click(visit.separate, [*what, *how], outputs, show_progress="hidden", concurrency_limit=None)
        example.click(visit.separate_example, how, outputs, show_progress="hidden", concurrency_limit=None)
        stop.click(visit.stop, None, None, show_progress="hidden", concurrency_limit=None)
        page.unload(visit.leave)
    # Of so many visitors Gradio keeps what they were shown last.
    page.state_session_capacity = 100
    return page


def _take_only_uploads(component: gr.components.Component, store: Store) -> None:
    """Gradio would copy any file of this machine and fetch any address that a request names."""
    keep = component.async_move_resource_to_block_cache

    async def keep_uploads(place: str | Path | None) -> str | None:
        if place is not None and not store.is_upload(place):
            raise gr.Error(NO_UPLOAD, print_exception=False)
        return await keep(place)

    component.async_move_resource_to_block_cache = keep_uploads  # type: ignore[assignment]


def _choices(site: Site, largest_megabytes: float) -> tuple[list, list]:
    """What is separated, and how."""
    longest_minutes = site.worker.longest_seconds / 60
    models = [(choice.label, choice.name) for choice in site.models]
    with gr.Row(equal_height=False):
        with gr.Column(scale=3):
            files = gr.File(
                label=f"Up to {largest_megabytes:g} MB, {longest_minutes:g} minutes each",
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
                container = gr.Dropdown(list(FORMATS), label="Format of the stems", filterable=False)
                depth = gr.Dropdown(list(DEPTHS), label="Bits of a sample", filterable=False)
                segment = gr.Number(
                    SEGMENT_SECONDS, label="Segment (seconds)", info="longest piece separated at a time"
                )
                overlap = gr.Number(OVERLAP, label="Overlap", info="part of it that neighbouring pieces share")
                shifts = gr.Number(
                    1,
                    label="Shifts",
                    info="how often it is separated: 4 are better, and take 4 times as long",
                    precision=0,
                )
                stems = gr.Textbox(label="Stems", info="names, such as speaker1, speaker2; all if empty", max_lines=1)
    _take_only_uploads(files, site.store)
    _take_only_uploads(microphone, site.store)
    return [files, microphone], [model, container, depth, segment, overlap, shifts, stems]


class Visit:
    """What happens when a visitor presses something. What it gives is what is told, what is shown, and the buttons."""

    def __init__(self, site: Site) -> None:
        self.site = site
        # The last job of each visitor.
        self.jobs: dict[str, Job] = {}

    def stop(self, request: gr.Request) -> None:
        """Ends what is worked on; what is finished stays."""
        job = self.jobs.get(request.session_hash or "")
        if job is not None and not job.is_finished:
            job.stop()

    def leave(self, request: gr.Request) -> None:
        """Ends what a visitor who closed the page need not have any more; what is finished stays its hour."""
        self.stop(request)
        self.jobs.pop(request.session_hash or "", None)

    async def separate(
        self, request: gr.Request, paths: list[str] | None, recorded: str | None, *chosen: Any
    ) -> AsyncIterator[tuple]:
        """Separates what was dropped and recorded."""
        uploads = [(path, Path(path).name) for path in paths or []]
        uploads += [(recorded, MICROPHONE)] if recorded else []
        if not uploads:
            text = "Choose a recording first, wait until it has arrived, or press <b>Try an example</b>."
            yield _note(text), "", *_buttons(True)
            return
        if len(uploads) > MAX_FILES:
            text = f"{len(uploads)} recordings are more than this page takes at a time, {MAX_FILES}. Give it fewer."
            yield _note(text, "alert"), "", *_buttons(True)
            return
        folder = self.site.store.new()
        try:
            kept = [await asyncio.to_thread(self._keep, folder, number, *one) for number, one in enumerate(uploads)]
        except ConfigError as error:
            self.site.store.discard(folder)
            yield _note(html.escape(str(error)), "alert"), "", *_buttons(True)
            return
        async for update in self._run(request, folder, kept, chosen):
            yield update

    def _keep(self, folder: Path, number: int, path: str, name: str) -> Recording:
        return Recording(self.site.store.keep(path, folder, number), name)

    async def separate_example(self, request: gr.Request, *chosen: Any) -> AsyncIterator[tuple]:
        """Separates two generated voices."""
        yield _note("Two voices are made up.") + WORKING, "", *_buttons(False)
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
        for name, other in list(self.jobs.items()):  # others leave meanwhile, in other threads
            if not other.folder.exists():
                self.jobs.pop(name, None)
        self.jobs[visitor] = job
        try:
            told, finished = "", -1
            while not job.is_finished:
                job.hear()
                self.site.store.touch(folder)  # it may wait longer than what was left is kept
                text, done = progress(self.site, job), len(job.outcomes)
                if text != told or done != finished:
                    yield text, gr.skip() if done == finished else self._shown(job), *_buttons(False)
                    told, finished = text, done
                await asyncio.sleep(TICK_SECONDS)
            yield progress(self.site, job), self._shown(job), *_buttons(True)
        finally:  # also of a visitor who has gone
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
        """Raises `ConfigError` in plain words for what does not go together."""
        extension, subtype = FORMATS[container], DEPTHS[depth]
        _, held = stem_files.container_of(Path(f"stem.{extension}"), subtype or "PCM_16")
        if subtype not in (None, held):
            raise ConfigError(f'{container} does not hold samples of {depth}: choose "as the recording", or WAV.')
        check_number("Segment (seconds)", segment, *SEGMENTS)
        check_number("Overlap", overlap, *OVERLAPS)
        check_number("Shifts", shifts, *SHIFTS)
        assert segment is not None and overlap is not None and shifts is not None
        choice = self.site.choice(model)
        if shifts > 1 and choice.can_stream:
            raise ConfigError(f"{choice.name} hears a recording once: leave Shifts at 1, or choose another model.")
        if choice.can_stream and (segment, overlap) != (SEGMENT_SECONDS, OVERLAP):
            raise ConfigError(
                f"{choice.name} takes a recording without pieces: leave Segment at {SEGMENT_SECONDS:g} and Overlap at "
                f"{OVERLAP:g}, or choose another model."
            )
        names = [name for name in re.split(r"[,\s]+", stems or "") if name]
        if names:
            chosen_stems(names, choice.sources, choice.name)
        return Options(choice.model, segment, overlap, shifts, extension, subtype, tuple(names) or None)

    def _shown(self, job: Job) -> str:
        shelves = self.site.shelved(job.folder.name)
        parts = [shelf.page for shelf in shelves]
        if job.is_finished and any(shelf.stems for shelf in shelves):
            parts.append(save_all(job.folder))
        return "".join(parts)


def progress(site: Site, job: Job) -> str:
    """How far a job is, in words and as a bar."""
    count = len(job.recordings)
    if job.state is State.STOPPED:
        return _note("Stopped. What was not finished is not kept.")
    if job.state is State.DONE:
        failed = count - sum(outcome.result is not None for outcome in job.outcomes)
        if failed:
            text = "This could not be separated:" if count == 1 else f"{failed} of {count} could not be separated."
            return _note(text, "alert")
        return _note(f"Done in {sum(outcome.result.work_seconds for outcome in job.outcomes if outcome.result):.1f} s.")
    if job.state is State.WAITING:
        ahead = site.worker.ahead(job)
        others = "one visitor is" if ahead == 1 else f"{ahead} visitors are"
        return _note(f"Waiting: {others} before you." if ahead else "It begins.") + WORKING
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
    """Start, example, stop."""
    return gr.Button(interactive=is_idle), gr.Button(interactive=is_idle), gr.Button(interactive=not is_idle)
