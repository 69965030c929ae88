"""What a Python program does with the published protos and nothing else of Outrider: `client.py SOCKET`."""
import sys
import time

import grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from outrider.runner.v1 import exec_pb2, exec_pb2_grpc, file_pb2, file_pb2_grpc, sandbox_pb2, sandbox_pb2_grpc

channel = grpc.insecure_channel("unix:" + sys.argv[1], options=[("grpc.enable_http_proxy", 0)])
execs = exec_pb2_grpc.ExecServiceStub(channel)
sandboxes = sandbox_pb2_grpc.SandboxServiceStub(channel)
files = file_pb2_grpc.FileServiceStub(channel)


def python(code, **fields):
    source = exec_pb2.SourceProgram(language="python", code=code)
    return exec_pb2.ExecSpec(source=source, **fields)


def runs_a_program():
    answer = execs.Run(exec_pb2.RunRequest(spec=python("import sys; print(6 * 7); sys.exit(3)")), timeout=20)
    assert answer.stdout == b"42\n", answer
    assert (answer.end.killed_by, answer.end.exit_code) == (exec_pb2.KILLED_BY_EXIT, 3), answer.end


def streams_in_order():
    code = "import sys\nfor line in sys.stdin:\n print(line.strip(), flush=True)\n print('!', file=sys.stderr, flush=True)"
    lines = [b"one\n", b"two\n", b"three\n"]

    def requests():
        yield exec_pb2.ExecRequest(start=python(code, open_stdin=True))
        for line in lines:
            yield exec_pb2.ExecRequest(stdin=line)
        yield exec_pb2.ExecRequest(close_stdin=exec_pb2.CloseStdin())

    kinds, out, err = [], b"", b""
    for response in execs.Exec(requests(), timeout=20):
        kind = response.WhichOneof("response")
        kinds.append(kind)
        if kind == "stdout":
            assert response.stdout.offset == len(out)
            out += response.stdout.data
        if kind == "stderr":
            assert response.stderr.offset == len(err)
            err += response.stderr.data
    assert kinds[0] == "started" and kinds[-1] == "end" and kinds.count("end") == 1, kinds
    assert (out, err) == (b"".join(lines), b"!\n" * 3), (out, err)


def cancels():
    stream = execs.Exec(iter([exec_pb2.ExecRequest(start=python("import time\nprint('up', flush=True)\ntime.sleep(60)"))]))
    exec_id = next(stream).started.exec_id
    assert next(stream).stdout.data == b"up\n"
    stream.cancel()
    deadline = time.monotonic() + 2
    while True:
        state = execs.GetExec(exec_pb2.GetExecRequest(exec_id=exec_id))
        if state.HasField("end"):
            break
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.02)
    assert state.end.killed_by == exec_pb2.KILLED_BY_DISCONNECT, state.end


def fetches_an_artefact():
    answer = execs.Run(exec_pb2.RunRequest(spec=python("open('/output/a.bin', 'wb').write(b'ab' * 1_000_000)")), timeout=20)
    artefact = answer.end.artefacts[0]
    assert (artefact.path, artefact.size, artefact.content) == ("a.bin", 2_000_000, b""), artefact
    request = exec_pb2.ReadArtefactRequest(exec_id=answer.started.exec_id, path="a.bin")
    assert b"".join(part.data for part in execs.ReadArtefact(request)) == b"ab" * 1_000_000


def writes_and_fetches_a_file():
    sandbox = sandboxes.CreateSandbox(sandbox_pb2.CreateSandboxRequest(name="python-client")).sandbox
    start = file_pb2.WriteFileStart(sandbox_id=sandbox.sandbox_id, path="d/f")
    content = [b"x" * 500_000, b"y" * 500_000]
    requests = [file_pb2.WriteFileRequest(start=start)] + [file_pb2.WriteFileRequest(data=part) for part in content]
    assert files.WriteFile(iter(requests)).size == 1_000_000
    request = file_pb2.ReadFileRequest(sandbox_id=sandbox.sandbox_id, path="d/f")
    assert b"".join(part.data for part in files.ReadFile(request)) == b"".join(content)
    sandboxes.DeleteSandbox(sandbox_pb2.DeleteSandboxRequest(name="python-client"))


def learns_of_its_own_mistakes():
    try:
        execs.Run(exec_pb2.RunRequest(spec=python("", role="nobody's")))
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
        assert dict(error.trailing_metadata())["outrider-error-code"] == "ROLE_DENIED"
    else:
        raise AssertionError("not refused")


def finds_the_services_by_reflection():
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "outrider.runner.v1.ExecService" in database.get_services(), database.get_services()
    found = database.FindFileContainingSymbol("outrider.runner.v1.ExecSpec")
    assert "ExecSpec" in [message.name for message in found.message_type]


for check in [
    runs_a_program,
    streams_in_order,
    cancels,
    fetches_an_artefact,
    writes_and_fetches_a_file,
    learns_of_its_own_mistakes,
    finds_the_services_by_reflection,
]:
    check()
    print(check.__name__, flush=True)
