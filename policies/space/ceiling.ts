import type { BoundarySpec, Method } from '../document.ts';
import { METHODS } from '../target.ts';
import { actionSet, OPAQUE } from './actions.ts';
import {
  commonAddresses,
  unionOfCidrs,
  WRITABLE_PRIVATE,
  WRITABLE_PUBLIC,
  withoutAddresses,
} from './address-set.ts';
import { type Box, cidr, commonBox, everythingAt } from './box.ts';
import { type Filed, Layer } from './layer.ts';

/** One field of a Boundary, as the requests that it refuses whatever a policy allows. */
export interface Ceiling {
  readonly field: keyof BoundarySpec;
  /** The parts of a box that the field refuses; of each, what is in `within` is not refused after all. */
  readonly outside: (box: Box) => readonly Outside[];
}

interface Outside {
  readonly box: Box;
  readonly within?: Layer<Filed>;
}

/** The ceilings that are about requests. */
export function ceilingsOf(spec: BoundarySpec): Ceiling[] {
  const { neverHosts, neverCidrs, neverPorts, mayHosts, mayMethods, mayTunnel, mayPrivate } = spec;
  return [
    ...(neverHosts ? [neverHostsCeiling(neverHosts)] : []),
    ...(neverCidrs ? [neverCidrsCeiling(neverCidrs)] : []),
    ...(neverPorts ? [neverPortsCeiling(neverPorts)] : []),
    ...(mayHosts ? [mayHostsCeiling(mayHosts)] : []),
    ...(mayMethods && mayMethods !== 'any' ? [mayMethodsCeiling(mayMethods)] : []),
    ...(mayTunnel === false ? [NO_TUNNELS] : []),
    mayPrivateCeiling(mayPrivate ?? []),
  ];
}

function neverHostsCeiling(hosts: readonly string[]): Ceiling {
  const layer = hostLayer(hosts);
  return {
    field: 'neverHosts',
    outside: (box) =>
      box.place.kind === 'name'
        ? [...layer.meeting(box)].flatMap((never) => asOutside(commonBox(box, never.box)))
        : [],
  };
}

/** A ceiling of names holds no address, but for those that the Boundary consents to. */
function mayHostsCeiling(hosts: readonly string[]): Ceiling {
  const layer = hostLayer(hosts);
  return {
    field: 'mayHosts',
    outside: (box) => {
      if (box.place.kind === 'name') return [{ box, within: layer }];
      return box.addresses ? withAddresses(box, WRITABLE_PUBLIC.ranges) : [];
    },
  };
}

function neverCidrsCeiling(cidrs: readonly string[]): Ceiling {
  const never = unionOfCidrs(cidrs.map(cidr));
  return {
    field: 'neverCidrs',
    // What a name leads to is seen when it is dialled.
    outside: (box) => (box.place.kind === 'address' ? withAddresses(box, never) : []),
  };
}

function mayPrivateCeiling(cidrs: readonly string[]): Ceiling {
  const rest = withoutAddresses(WRITABLE_PRIVATE.ranges, unionOfCidrs(cidrs.map(cidr)));
  return {
    field: 'mayPrivate',
    outside: (box) => (box.place.kind === 'address' ? withAddresses(box, rest) : []),
  };
}

function neverPortsCeiling(never: readonly number[]): Ceiling {
  return {
    field: 'neverPorts',
    outside: (box) => {
      const ports = new Set(never.filter((port) => box.ports?.has(port) === true));
      return ports.size === 0 ? [] : [{ box: { ...box, ports } }];
    },
  };
}

/** In a tunnel nobody sees methods; `mayTunnel` is about those. */
function mayMethodsCeiling(may: readonly Method[]): Ceiling {
  const others = actionSet(METHODS.filter((method) => !may.includes(method)));
  return {
    field: 'mayMethods',
    outside: (box) => {
      const actions = box.actions & others;
      return actions === 0 ? [] : [{ box: { ...box, actions } }];
    },
  };
}

const NO_TUNNELS: Ceiling = {
  field: 'mayTunnel',
  outside: (box) => (box.actions === OPAQUE ? [{ box }] : []),
};

function withAddresses(box: Box, set: ReturnType<typeof unionOfCidrs>): Outside[] {
  const addresses = commonAddresses(box.addresses ?? [], set);
  return addresses.length === 0 ? [] : [{ box: { ...box, addresses } }];
}

function asOutside(box: Box | undefined): Outside[] {
  return box ? [{ box }] : [];
}

/** Everything at some hosts. */
function hostLayer(hosts: readonly string[]): Layer<Filed> {
  return new Layer(hosts.map((text) => ({ box: everythingAt(text) })));
}
