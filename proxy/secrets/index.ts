// The door for `outrider secret`: what writes the store, and what reads it.

export { createSecrets } from '../secrets.ts';
export { addKey, changingKeys, dropOldKeys, makeKeyFile, readKeyRing } from './key-ring.ts';
export { type ListedSlot, parseSlot, SecretStore, type Slot, slotText } from './store.ts';
export { PEM_MAX_BYTES } from './value.ts';
