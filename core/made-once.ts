/**
 * The same function, which makes one thing of each list or record that nobody can change any more and remembers it for as long as that
 * lives: the fields of a head that came again are the same list. What it makes must not change either.
 */
export function madeOnce<From extends object, T extends object>(
  make: (from: From) => T,
): (from: From) => T {
  const made = new WeakMap<From, T>();
  return (from) => {
    const known = made.get(from);
    if (known) return known;
    const thing = make(from);
    if (Object.isFrozen(from)) made.set(from, thing);
    return thing;
  };
}
