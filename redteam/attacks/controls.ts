import type { Attack, Control } from '../attack.ts';
import { type WeakOptions, weakTarget } from '../weak.ts';

/** The ways in which protections are off. */

/** A plain child process of this one. */
export const onHost = (how: string, options: WeakOptions = {}): Control => ({
  how,
  target: (ground) => weakTarget(ground, options),
});

/** A child process in a process namespace of its own, so that whatever it starts ends with it. */
export const onHostBounded = (how: string, options: WeakOptions = {}): Control =>
  onHost(how, { ...options, before: ['unshare', '--pid', '--fork', '--kill-child'] });

/** The nobody of every distribution. */
export const NOBODY = 65_534;

/** A bubblewrap box by hand: all of the host's files, and of the rest only what `options` names. */
export const weakBox = (how: string, argv: readonly string[], options: WeakOptions = {}): Control =>
  onHost(how, {
    ...options,
    before: ['bwrap', '--dev-bind', '/', '/', '--die-with-parent', ...argv, '--'],
  });

/** For attacks that need a sandbox that is kept between programs. */
export const needsRoom: NonNullable<Attack['unfit']> = (target) =>
  target.visit === undefined ? 'it keeps no sandbox between programs' : undefined;

/** For attacks on what stands behind the sandbox. */
export const needsRig: NonNullable<Attack['unfit']> = (target, ground) =>
  ground.rig === undefined
    ? 'needs a runner that was started for the attack'
    : needsRoom(target, ground);
