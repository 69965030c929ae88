import { spawn } from 'node:child_process';
import { Ground } from './ground.ts';
import type { Layout, Target } from './target.ts';
import { weakTarget } from './weak.ts';

/** As an image has them. */
const LAYOUT: Layout = {
  root: '',
  places: { tmp: '/tmp', workspace: '/tmp', output: '/tmp', shm: '/dev/shm' },
};

/** An image may be made to start something else: programs are ours to name. */
const RUN = ['docker', 'run', '--rm', '--network', 'none', '--entrypoint', ''];

/** Plain `docker run --network none IMAGE`, everything else as docker has it: what a sandbox is measured against. */
export function dockerRunTarget(image: string): Target {
  let count = 0;
  const kept: Target['open'] = () => Promise.reject(new Error('docker run keeps nothing'));
  return {
    name: 'docker run',
    ownKernel: false,
    layout: LAYOUT,
    open: kept,
    async run(program) {
      const name = `outrider-redteam-${process.pid}-${++count}`;
      const ground = new Ground();
      const target = weakTarget(ground, {
        before: [...RUN, '--name', name, image],
        layout: LAYOUT,
        cleanUp: () => remove(name),
      });
      try {
        return await target.run(program);
      } finally {
        await ground.end();
      }
    },
  };
}

/** Ends a container whose client is gone. */
function remove(name: string): void {
  spawn('docker', ['rm', '--force', name], { stdio: 'ignore' }).on('error', () => {});
}
