import type { Clock } from '#core/clock';
import type { GaugeSeries, Metrics } from '#core/metrics';
import { Circuit, type ExchangeEnd } from './circuit.ts';
import { connectUpstream, type ServerPlace, type Upstream } from './upstream.ts';

export interface Balancer {
  /**
   * The server for a request that is bound to none: of two chosen at random by weight, the one with fewer requests in flight for
   * its weight. Servers that are draining, stopping, down, ejected or failing are left out, unless there is no other. Undefined only
   * where all are in `except`.
   */
  pick(...except: readonly Upstream[]): Upstream | undefined;
  /** The server that has a session, whatever its health; undefined where it is gone, or three checks say that it is down. */
  find(url: string): Upstream | undefined;
  /**
   * Notes a request sent to `upstream`; call what it returns when that request has ended, with how it did, or with undefined
   * where that says nothing about the server.
   */
  begin(upstream: Upstream): (end: ExchangeEnd | undefined) => void;
  /** Notes whether a server is about to stop, by its own word: while it is, it gets nothing new. */
  leaves(upstream: Upstream, leaving: boolean): void;
  /** Notes what a check found. Returns whether that changed what is thought of the server. */
  checked(upstream: Upstream, sound: boolean): boolean;
  /**
   * Puts other servers in place of these. One that is gone finishes what it has, and serves its sessions until it has had nothing
   * to do for 10 minutes.
   */
  update(places: readonly ServerPlace[]): void;
  /** Those that have said that they are about to stop. */
  readonly leaving: readonly Upstream[];
  /** Those that get requests now. */
  readonly upstreams: readonly Upstream[];
  close(): Promise<void>;
}

/** How long the sessions of a server that has left are still sent to it. */
const LEFT_IDLE_MS = 600_000;

interface Member {
  upstream: Upstream;
  readonly circuit: Circuit;
  inFlight: number;
  /** No longer in the list. */
  left: boolean;
  usedAt: number;
  readonly up: GaugeSeries;
  /** What `up` says. */
  shown: boolean | undefined;
}

export function createBalancer(
  places: readonly ServerPlace[],
  metrics: Metrics,
  now: Clock = Date.now,
  random: () => number = Math.random,
): Balancer {
  const up = metrics.gauge('outrider_backend_up', 'Servers that can be reached', ['backend']);
  const load = metrics.gauge('outrider_backend_inflight', 'Requests in flight', ['backend'], () => {
    for (const { upstream, inFlight } of members.values())
      load.set({ backend: upstream.label }, inFlight);
  });
  const members = new Map<string, Member>();
  const memberOf = ({ url }: Upstream): Member | undefined => members.get(url.href);
  const present = () => [...members.values()].filter(({ left }) => !left);
  const show = (member: Member): void => {
    const { closed } = member.circuit;
    if (closed !== member.shown) member.up.set(closed ? 1 : 0);
    member.shown = closed;
  };

  function update(wanted: readonly ServerPlace[]): void {
    const hrefs = new Set(wanted.map(({ url }) => url.href));
    for (const member of members.values())
      if (!hrefs.has(member.upstream.url.href)) member.left = true;
    for (const place of wanted) {
      const known = members.get(place.url.href);
      if (known) {
        known.upstream = { ...known.upstream, weight: place.weight, draining: place.draining };
        known.left = false;
      } else {
        const upstream = connectUpstream(place, freeLabel(members.values()));
        const circuit = new Circuit(now);
        const member: Member = {
          upstream,
          circuit,
          inFlight: 0,
          left: false,
          usedAt: now(),
          up: up.labels({ backend: upstream.label }),
          shown: undefined,
        };
        members.set(place.url.href, member);
        show(member);
      }
    }
    forgetIdle();
  }

  function forgetIdle(): void {
    for (const [href, { left, inFlight, usedAt, upstream }] of members) {
      if (!left || inFlight > 0 || now() - usedAt < LEFT_IDLE_MS) continue;
      members.delete(href);
      up.remove({ backend: upstream.label });
      load.remove({ backend: upstream.label });
      void upstream.pool.destroy();
    }
  }

  update(places);
  return {
    get upstreams() {
      return present().map(({ upstream }) => upstream);
    },
    get leaving() {
      return present().flatMap(({ upstream, circuit }) => (circuit.leaving ? [upstream] : []));
    },
    leaves(upstream, leaving) {
      const member = memberOf(upstream);
      if (!member || member.circuit.leaving === leaving) return;
      member.circuit.leaving = leaving;
      show(member);
    },
    update,
    pick(...except) {
      const excepted = ({ upstream }: Member) =>
        except.some(({ url }) => url.href === upstream.url.href);
      const others = present().filter((member) => !excepted(member));
      const fit = others.filter(({ upstream, circuit }) => !upstream.draining && circuit.closed);
      // With every server out, waiting helps nobody: the next request finds out whether one is back. One that says that it is about
      // to stop is the last choice.
      const staying = others.filter(({ circuit }) => !circuit.leaving);
      const choice = [fit, staying].find(({ length }) => length > 0) ?? others;
      const [first, second] = twoOf(choice, random);
      if (!first || !second) return first?.upstream;
      const share = ({ inFlight, upstream }: Member) => inFlight / upstream.weight;
      return (share(second) < share(first) ? second : first).upstream;
    },
    find(url) {
      const member = members.get(url);
      return member?.circuit.down ? undefined : member?.upstream;
    },
    begin(upstream) {
      const member = memberOf(upstream);
      if (!member) return () => {};
      member.circuit.begun();
      member.usedAt = now();
      member.inFlight += 1;
      let over = false;
      return (end) => {
        if (over) return;
        over = true;
        member.inFlight -= 1;
        member.usedAt = now();
        if (end === undefined) member.circuit.abandoned();
        else member.circuit.ended(end);
        show(member);
      };
    },
    checked(upstream, sound) {
      const member = memberOf(upstream);
      if (!member) return false;
      const before = member.circuit.down;
      member.circuit.checked(sound);
      show(member);
      return member.circuit.down !== before;
    },
    async close() {
      await Promise.all([...members.values()].map(({ upstream }) => upstream.pool.destroy()));
    },
  };
}

/** The smallest number that no server has. */
function freeLabel(members: Iterable<Member>): string {
  const taken = new Set([...members].map(({ upstream }) => upstream.label));
  let label = 0;
  while (taken.has(String(label))) label += 1;
  return String(label);
}

/** Two different members at random, each as likely as its weight says, or what there is. */
function twoOf(members: readonly Member[], random: () => number): readonly Member[] {
  if (members.length < 2) return members;
  const first = oneOf(members, random);
  const second = oneOf(
    members.filter((member) => member !== first),
    random,
  );
  // In the order of the dice: between two equally idle ones the first is taken.
  return [first, second].filter((member) => member !== undefined);
}

function oneOf(members: readonly Member[], random: () => number): Member | undefined {
  const total = members.reduce((sum, { upstream }) => sum + upstream.weight, 0);
  let at = random() * total;
  return members.find(({ upstream }) => (at -= upstream.weight) < 0) ?? members.at(-1);
}
