import type { Clock } from '#core/clock';
import type { GaugeSeries, Metrics } from '#core/metrics';
import { OpenList } from '#core/open-list';
import { Circuit, type ExchangeEnd, type Health } from './circuit.ts';
import { connectUpstream, type ServerPlace, type Upstream } from './upstream.ts';

export interface Balancer {
  /**
   * The server for a request that is bound to none: of two chosen at random by weight, the one with fewer requests in flight for
   * its weight. Servers that are stopping, down or ejected are left out, unless there is no other; one whose circuit is open always is, and
   * one that is draining unless `began`, which is for clients that were there before. Undefined where none is left, or all are in `except`.
   */
  pick(except?: readonly Upstream[], began?: boolean): Upstream | undefined;
  /**
   * For how long nothing may be sent to a server, 0 where something may; without one: until the first of those that take what is new may be
   * tried, undefined where there is no server at all.
   */
  restMs(upstream?: Upstream): number | undefined;
  /** The server that has a session, whatever its health; undefined where it is gone, or three checks say that it is down. */
  find(url: string): Upstream | undefined;
  /**
   * Notes a request sent to `upstream`; what it returns is to be told how that goes on. `onGone` is called when it is found out that the server
   * answers nothing any more.
   */
  begin(upstream: Upstream, onGone?: () => void): Visit;
  /** Notes whether a server is about to stop, by its own word: while it is, it gets nothing new. */
  leaves(upstream: Upstream, leaving: boolean): void;
  /** Notes what a check found. Returns whether that changed what is thought of the server. */
  checked(upstream: Upstream, health: Health): boolean;
  /**
   * Puts other servers in place of these. One that is gone finishes what it has, and serves its sessions until it has answered
   * nothing for 10 minutes.
   */
  update(places: readonly ServerPlace[]): void;
  /** Those that have said that they are about to stop. */
  readonly leaving: readonly Upstream[];
  /** Those that get requests now. */
  readonly upstreams: readonly Upstream[];
  /** Those that have other servers in their place, and still serve their sessions. */
  readonly left: readonly Upstream[];
  close(): Promise<void>;
}

/** A request at a server. */
export interface Visit {
  /** Something has come from the server; `works`: the head of an answer that is no failure. */
  heard(works: boolean): void;
  /** It has ended, undefined: in a way that says nothing about the server. */
  over(end: ExchangeEnd | undefined): void;
}

/** When to ask again where all servers are draining: others may have been configured by then. */
const DRAINED_RETRY_MS = 5_000;
/** How long the sessions of a server that has left are still sent to it. */
const LEFT_IDLE_MS = 600_000;

interface Member {
  upstream: Upstream;
  readonly circuit: Circuit;
  inFlight: number;
  /** Of what is in flight: to be told that nothing will come. */
  readonly waiting: OpenList<() => void>;
  /** No longer in the list. */
  left: boolean;
  /** When it last answered: clients that try for ever do not keep one that is gone. */
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
          waiting: new OpenList(),
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
    get left() {
      return [...members.values()].flatMap(({ left, upstream }) => (left ? [upstream] : []));
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
    pick(except = [], began = false) {
      const excepted = ({ upstream }: Member) =>
        except.some(({ url }) => url.href === upstream.url.href);
      const others = present().filter((member) => !excepted(member));
      const staying = others.filter(({ upstream }) => !upstream.draining);
      const tryable = staying.filter(({ circuit }) => circuit.restMs === 0);
      // With every server out, waiting helps nobody: the next request finds out whether one is back. One that says that it is about
      // to stop is the last choice, and one that is told to comes before nothing for a client that it has served.
      const choice = [
        tryable.filter(({ circuit }) => circuit.closed),
        tryable.filter(({ circuit }) => !circuit.leaving),
        tryable,
        began ? others.filter(({ circuit }) => circuit.restMs === 0) : [],
      ].find(({ length }) => length > 0);
      const [first, second] = twoOf(choice ?? [], random);
      if (!first || !second) return first?.upstream;
      const share = ({ inFlight, upstream }: Member) => inFlight / upstream.weight;
      return (share(second) < share(first) ? second : first).upstream;
    },
    restMs(upstream) {
      if (upstream) return memberOf(upstream)?.circuit.restMs ?? 0;
      const all = present();
      const rests = all.flatMap(({ upstream: { draining }, circuit }) =>
        draining ? [] : [circuit.restMs],
      );
      if (all.length === 0) return undefined;
      return rests.length === 0 ? DRAINED_RETRY_MS : Math.min(...rests);
    },
    find(url) {
      const member = members.get(url);
      return member?.circuit.down ? undefined : member?.upstream;
    },
    begin(upstream, onGone) {
      const member = memberOf(upstream);
      if (!member) return { heard() {}, over() {} };
      const { circuit, waiting } = member;
      const request = circuit.begun();
      member.inFlight += 1;
      if (onGone) waiting.add(onGone);
      let isOver = false;
      let answers = false;
      return {
        heard(works) {
          answers ||= works;
          circuit.heard(works);
        },
        over(end) {
          if (isOver) return;
          isOver = true;
          member.inFlight -= 1;
          if (answers || end === 'answered') member.usedAt = now();
          if (onGone) waiting.delete(onGone);
          if (end === undefined) circuit.abandoned();
          else circuit.ended(end, request);
          show(member);
        },
      };
    },
    checked(upstream, health) {
      const member = memberOf(upstream);
      if (!member) return false;
      const before = member.circuit.down;
      member.circuit.checked(health);
      show(member);
      if (member.circuit.silent) for (const onGone of member.waiting) onGone();
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
