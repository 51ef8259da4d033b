"""Speech to text for Home Assistant: a bridge from the Wyoming protocol to `dragoman serve`.

    pip install wyoming openai
    python examples/home_assistant.py [--uri tcp://0.0.0.0:10300] [--server http://127.0.0.1:8000/v1] [--languages en]

In Home Assistant add the integration "Wyoming Protocol" with the address and port of this machine, and choose it as
the speech-to-text of a voice assistant. The protocol has no keys and no encryption: use it in a trusted network, or
bind it to the address that only Home Assistant reaches. The key of the server is `OPENAI_API_KEY`, if it asks for one.
"""

import argparse
import asyncio
import contextlib
import io
import logging
import os
import wave

from openai import AsyncOpenAI, OpenAIError
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.server import AsyncEventHandler, AsyncServer

_MAX_BYTES = 20 << 20  # minutes; a command takes seconds
_SOURCE = Attribution(name="dragoman", url="https://pypi.org/project/dragoman/")


class Bridge(AsyncEventHandler):
    """One connection of Home Assistant.

    Args:
        client: The client of the server.
        languages: What to offer to Home Assistant.
        reader: Where events come from.
        writer: Where answers go.
    """

    def __init__(
        self, client: AsyncOpenAI, languages: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(reader, writer)
        self._client, self._languages = client, languages
        self._wanted, self._audio = Transcribe(), bytearray()
        self._format = AudioStart(rate=16_000, width=2, channels=1)

    async def handle_event(self, event: Event) -> bool:
        """Answer an event; `False` ends the connection."""
        try:
            return await self._answer(event)
        except OpenAIError as error:
            logging.warning("%s", error)
            await self.write_event(Error(text=str(error), code=type(error).__name__).event())
            return False

    async def _answer(self, event: Event) -> bool:
        if Describe.is_type(event.type):
            await self.write_event((await self._info()).event())
        elif Transcribe.is_type(event.type):
            self._wanted = Transcribe.from_event(event)
        elif AudioStart.is_type(event.type):
            self._format = AudioStart.from_event(event)
            self._audio.clear()
        elif AudioChunk.is_type(event.type):
            self._audio += AudioChunk.from_event(event).audio
            if len(self._audio) > _MAX_BYTES:
                await self.write_event(Error(text="The recording is too long.").event())
                return False
        elif AudioStop.is_type(event.type):
            await self.write_event((await self._transcript()).event())
            return False  # Home Assistant opens a connection for each command
        return True

    async def _info(self) -> Info:
        def described(name: str) -> AsrModel:
            return AsrModel(
                name=name,
                attribution=_SOURCE,
                installed=True,
                description=None,
                version=None,
                languages=self._languages,
            )

        models = [described(model.id) async for model in self._client.models.list()]
        program = AsrProgram(
            name="dragoman",
            attribution=_SOURCE,
            installed=True,
            description="Speech to text",
            version=None,
            models=models,
        )
        return Info(asr=[program])

    async def _transcript(self) -> Transcript:
        file = io.BytesIO()
        with wave.open(file, "wb") as audio:
            audio.setnchannels(self._format.channels)
            audio.setsampwidth(self._format.width)
            audio.setframerate(self._format.rate)
            audio.writeframes(bytes(self._audio))
        fields = {"language": self._wanted.language} if self._wanted.language else {}
        if names := [*(self._wanted.transcript_names or ()), *(self._wanted.transcript_terms or ())]:
            fields["extra_body"] = {"keywords": names[:100]}
        found = await self._client.audio.transcriptions.create(
            file=("command.wav", file.getvalue()), model=self._wanted.name or "", **fields
        )
        return Transcript(text=found.text, language=self._wanted.language)


async def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", default="tcp://127.0.0.1:10300", help="where to listen")
    parser.add_argument("--server", default="http://127.0.0.1:8000/v1", help="base URL of the server")
    parser.add_argument("--languages", nargs="+", default=["en"], help="languages to offer to Home Assistant")
    options = parser.parse_args()
    client = AsyncOpenAI(base_url=options.server, api_key=os.environ.get("OPENAI_API_KEY", "none"))
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    logging.info("From %s to %s.", options.uri, options.server)
    await AsyncServer.from_uri(options.uri).run(
        lambda reader, writer: Bridge(client, options.languages, reader, writer)
    )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
