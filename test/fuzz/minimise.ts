/** The shortest case found by leaving pieces out for which `holds` is still true; it is true of the one given. */
export async function minimised<Case extends { readonly text: string }>(
  one: Case,
  holds: (shorter: Case) => Promise<boolean>,
): Promise<Case> {
  let best = one;
  for (let size = Math.ceil(one.text.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < best.text.length; ) {
      const shorter = { ...best, text: best.text.slice(0, at) + best.text.slice(at + size) };
      if (await holds(shorter)) best = shorter;
      else at += size;
    }
  }
  return best;
}
