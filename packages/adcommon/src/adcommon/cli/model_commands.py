"""The command that is the same for every method: `predict`."""

import os
import webbrowser
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from adcommon.cli.deciding import Deciding
from adcommon.cli.many import Many, predict_on_ray
from adcommon.errors import BadValue
from adcommon.types.values import MapFormat, Positive, Workers

if TYPE_CHECKING:
    from adcommon.deploy.many.predict import Counted


def predict_app(name: str, method: str | None = None) -> App:
    """The command that scores images with a trained model.

    Args:
        method: refuse models of other methods; None accepts all that are installed.
    """
    app = App(
        name=name, help="Score images with a trained model: a CSV of scores and decisions, and pictures."
    )

    @app.default
    def command(
        images: str,
        *,
        deciding: Deciding,
        out: Path = Path("predictions"),
        maps: Annotated[bool | None, Parameter(show_default=False)] = None,
        save_maps: MapFormat | None = None,
        batch_size: Positive = 8,
        workers: Workers | None = None,
        max_megapixels: Annotated[Positive | None, Parameter(show_default=False)] = None,
        resume: bool = False,
        force: bool = False,
        fail_on_anomaly: bool = False,
        open_page: Annotated[bool, Parameter(name="--open", negative=())] = False,
        many: Many = Many(),  # noqa: B008
    ) -> None:
        """Score images with a trained model.

        The exit code is 0 if every image was scored, 1 if one was not, 2 for a mistake in the call, 3 with
        --fail-on-anomaly if every image was scored and one is anomalous or not of the kind that the model
        knows, 143 or 130 if it was stopped.

        Args:
            images: An image, or a folder of images at any depth; with --engine ray also an address of a store
                (s3://bucket/photos), or a Parquet file that has such addresses in a column `path`.
            out: Folder for predictions.csv and the pictures, a folder of this prediction alone.
            maps: Write a picture of every anomaly map; with --engine ray the maps themselves, into Parquet
                files. [default: yes, with --engine ray no]
            save_maps: Also write the maps themselves, at the images' own size, and beside each a JSON file of
                the regions that hardly any good image reaches: place, size, area, peak.
            batch_size: Images per batch.
            workers: Threads that decode images, and as many that draw pictures. [default: one for each core,
                at most 8; with --engine ray 2]
            max_megapixels: Largest picture that is decoded, in millions of pixels.
                [default: $AD_MAX_MEGAPIXELS, else 100]
            resume: Continue a prediction that was stopped or killed; images that have a row are not scored
                again.
            force: Overwrite a prediction in the folder.
            fail_on_anomaly: End with exit code 3 if an image is anomalous, or not of the kind that the model
                knows.
            open_page: Open the page of pictures in the browser at the end.
        """
        from adcommon.deploy.inputs import find_images, list_inputs
        from adcommon.deploy.predict import MAPS, predict, refuse_out
        from adcommon.deploy.rows import file_digest, listing_digest
        from adcommon.deploy.summary import Predicted, summary
        from adcommon.io.decoding import allow_megapixels
        from adcommon.results.gallery import PAGE
        from adcommon.training.logging import start_logging
        from adcommon.training.stop import StopSignal

        start_logging(None)
        if max_megapixels is not None:
            allow_megapixels(max_megapixels)
        if resume and force:
            raise BadValue("--resume keeps the prediction and --force deletes it; use one of them")
        if save_maps and maps is False:
            raise BadValue("--save-maps writes the maps, and --no-maps none; use one of them")
        if many.engine is not None:
            many.refuse(deciding.runtime, gpu=deciding.gpu, save_maps=save_maps, open=open_page)
            here = replace(deciding, device="cpu", precision=None, compile=False)  # scores nothing
            loaded, runs_on = here.load(method)[0], deciding.device or "auto"
        elif "://" in images:
            raise BadValue(f"{images} is no path of this machine; --engine ray reads addresses")
        else:
            refuse_out(out, resume=resume, force=force)
            list_inputs(Path(images), out)
            loaded, runs_on = deciding.load(method)
        if fail_on_anomaly and loaded.threshold is None:
            raise BadValue("--fail-on-anomaly needs a threshold, and the model has none; give --threshold")
        if workers is None:
            workers = min(8, os.cpu_count() or 1) if many.engine is None else 2
        references = deciding.references
        made_with = {
            "model": str(deciding.model.resolve()),
            "model_digest": file_digest(deciding.model),
            "category": deciding.category,
            "tile": deciding.tile,
            "overlap": deciding.overlap,
            "references": None if references is None else listing_digest(find_images(references)),
            "device": runs_on,
            "precision": deciding.precision,
            "runtime": loaded.runtime,
        }
        predicted: Predicted | Counted
        with StopSignal() as stop:
            if many.engine is None:
                predicted = predict(
                    loaded,
                    Path(images),
                    out,
                    batch_size=batch_size,
                    workers=workers,
                    maps=maps is not False,
                    save_maps=save_maps,
                    resume=resume,
                    force=force,
                    made_with=made_with,
                    stop=lambda: stop.requested,
                )
                print(summary(predicted, loaded, out))
            else:
                threads = None if loaded.runtime == "torch" else deciding.threads or many.cpus
                for_worker = replace(
                    deciding,
                    model=deciding.model.absolute(),
                    references=references and references.absolute(),
                    threads=threads,
                )
                predicted = predict_on_ray(
                    loaded,
                    partial(for_worker.load, method),
                    images,
                    out,
                    many,
                    batch_size=batch_size,
                    workers=workers,
                    maps=bool(maps),
                    resume=resume,
                    force=force,
                    made_with=made_with,
                    stop=lambda: stop.requested,
                )
        if open_page and (page := out / MAPS / PAGE).exists():
            webbrowser.open(page.resolve().as_uri())
        if stop.number:
            raise SystemExit(128 + stop.number)
        if predicted.failed:
            raise SystemExit(1)
        if fail_on_anomaly and (predicted.anomalous or predicted.unfamiliar):
            raise SystemExit(3)

    return app
