import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { until } from '../support/mesh.ts';
import { Program, type Sender, senderText } from './program.ts';
import { isOfMarker, type Stage, startOrigins } from './world.ts';

/** The origins of the battery behind plain-proxy.ts and nothing else: the control, with which cases must fail. */
export async function startPlainStage(): Promise<Stage> {
  const undo: (() => unknown)[] = [];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).toReversed()) await step();
  };
  try {
    const { within, certificates, canary } = await startOrigins(undo);
    const start = (...argv: readonly string[]): ChildProcess => {
      const [command = '', ...words] = [...within, ...argv];
      const env = { ...process.env, SSL_CERT_FILE: certificates.authorityFile };
      const child = spawn(command, words, { stdio: ['pipe', 'pipe', 'inherit'], env });
      undo.push(async () => {
        const ended = child.exitCode === null ? once(child, 'exit') : undefined;
        child.kill('SIGKILL');
        await ended;
      });
      return child;
    };
    const proxy = start(process.execPath, join(import.meta.dirname, 'plain-proxy.ts'));
    let listens = false;
    proxy.stdout?.once('data', () => (listens = true));
    await until('the plain proxy listens', () => listens);
    const program = new Program(asProcess(start('/usr/bin/python3', '-c', senderText())));
    await program.ready;
    let [marks, judged] = [0, 0];
    return {
      certificates,
      order: canary.order,
      stop,
      troubles: () => (proxy.exitCode === null ? [] : ['the proxy has ended']),
      async perform(_role, steps, timeoutMs) {
        const reply = await program.order(steps, timeoutMs);
        const mark = `m/${(marks += 1)}`;
        await program.mark(mark);
        await until('the marker was seen', () =>
          canary.sightings.some(({ request }) => request?.url === `/${mark}`),
        );
        const sightings = canary.sightings.slice(judged).filter((one) => !isOfMarker(one));
        judged = canary.sightings.length;
        return { reply, sightings, sidecar: [], proxy: [] };
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function asProcess({ stdin, stdout }: ChildProcess): Sender {
  return {
    write: (line) => void stdin?.write(line),
    end: () => void stdin?.end(),
    async listen(onLine) {
      if (stdout) for await (const line of createInterface({ input: stdout })) onLine(line);
      return 'its output is at its end';
    },
  };
}
