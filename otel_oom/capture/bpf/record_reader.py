"""Read the records of an attached kernel side: what they mean, and what was lost.

A source imports this when it is attached: the kernel records meanwhile.
"""

from __future__ import annotations

from msgspec.structs import replace

from otel_oom.capture.bpf.decoder import Decoder, WireError
from otel_oom.capture.bpf.ksyms import KernelSymbolizer
from otel_oom.capture.bpf.loader import LoadedObject
from otel_oom.capture.bpf.lost_events import LostEventCounter
from otel_oom.capture.bpf.mappings import MappingReader
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.start_text import StartTextReader
from otel_oom.capture.bpf.victims import VictimSweeper
from otel_oom.linux import clock
from otel_oom.linux.gfp_flags import GfpFlagNames
from otel_oom.model.events import CapturedEvent, UndecodableRecord
from otel_oom.model.loss import LostEvents


class RecordReader:
    """Decoder of the records of one attached object, and counter of those that are missing."""

    def __init__(self, loaded: LoadedObject, source: str, since_ns: int) -> None:
        """Read records of ``source``, which began to attach at ``since_ns`` of the boot clock."""
        maps = loaded.object
        own_object = maps if isinstance(maps, BpfObject) else None
        symbolizer = KernelSymbolizer(own_object)
        self.start_texts = StartTextReader(maps)
        self._decoder = Decoder(
            boot_id=clock.boot_id(),
            source=source,
            hook=loaded.hook,
            names=symbolizer.names,
            decision_source=loaded.decision_source,
            gfp_flags=GfpFlagNames().format_mask,
            start_settings=self.start_texts.read,
            mappings=MappingReader(own_object).read,
            since_ns=since_ns,
        )
        self._lost = LostEventCounter(maps)
        self._sweeper = VictimSweeper(maps)
        self.undecodable = 0
        """Records that could not be decoded, and corrupt rings."""

    def decode(self, record: bytes, offset_ns: int) -> CapturedEvent:
        """Return the event of a record; ``offset_ns`` is that of the boot clock to Unix time."""
        try:
            return self._decoder.decode(record, offset_ns)
        except Exception as error:  # noqa: BLE001  whatever it was, the record is kept
            self.undecodable += 1
            reason = str(error) if isinstance(error, WireError) else repr(error)
            return UndecodableRecord(record, reason)

    def lost_events(self) -> LostEvents:
        """Return the events lost on all CPUs since an earlier agent's report.

        An exit counts as lost once its victim is gone.
        """
        lost = self._lost.read()
        exits = lost.exits + self._sweeper.sweep()
        return replace(lost, exits=exits, undecodable=self.undecodable)
