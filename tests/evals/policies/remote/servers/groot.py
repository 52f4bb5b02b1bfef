"""A GR00T server as `gr00t/policy/server_client.py` writes it; arrays as N1.6 or N1.7 sends them (argument)."""

import io
import sys

import msgpack
import msgpack_numpy
import numpy as np
import toy
import zmq


def written(value):
    """Return an array as N1.6 sends it."""
    if not isinstance(value, np.ndarray):
        return value
    file = io.BytesIO()
    np.save(file, value)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def read(found):
    """Return an array that came as a NumPy file."""
    return np.load(io.BytesIO(found["as_npy"]), allow_pickle=False) if "__ndarray_class__" in found else found


def answer(request):
    """Return what an endpoint says."""
    endpoint, data = request.get("endpoint", "get_action"), request.get("data")
    if request.get("api_token") != "s3cret":
        return {"error": "Unauthorized: Invalid API token"}
    if endpoint == "get_modality_config":
        return {"video": {"__ModalityConfig_class__": True, "as_json": '{"delta_indices": [0]}'}}
    if endpoint == "get_action":
        seen = data["observation"]
        assert seen["video"]["image"].shape == (1, 1, 64, 64, 3), "video must be [B, T, H, W, 3]"
        state = np.concatenate([seen["state"][axis].ravel() for axis in "xyz"])
        chunk = toy.actions(state, seen["language"]["task"][0][0], seen["video"]["image"][0, 0])[None]
        return [{"move": chunk[..., :3], "turn": chunk[..., 3:6], "gripper": chunk[..., 6:]}, {"took": 1}]
    return {"status": "ok"} if endpoint in ("ping", "reset") else {"error": f"Unknown endpoint: {endpoint}"}


socket = zmq.Context().socket(zmq.REP)
toy.ready(socket.bind_to_random_port("tcp://127.0.0.1"))
default = msgpack_numpy.encode if sys.argv[1] == "n1.7" else written
while True:
    try:
        said = answer(msgpack.unpackb(socket.recv(), object_hook=read))
    except Exception as error:  # noqa: BLE001 - as theirs
        said = {"error": str(error)}
    socket.send(msgpack.packb(said, default=default))
