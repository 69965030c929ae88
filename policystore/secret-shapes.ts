/** Shapes that hardly anything but a secret has. */
const CERTAIN = [
  // A JWT.
  String.raw`\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*`,
  // A key in PEM.
  String.raw`-----BEGIN [A-Z ]*PRIVATE KEY`,
  // User information in a URL.
  String.raw`\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/@"'<>]+@`,
  // Tokens that say themselves what they are: AWS, GitHub, GitLab, Slack, npm, PyPI, Google, several model providers.
  String.raw`\b(?:AKIA|ASIA)[0-9A-Z]{16}\b`,
  String.raw`\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-)[\w-]{16,}`,
  String.raw`\bnpm_[A-Za-z0-9]{30,}|\bpypi-AgE[\w-]{16,}|\bAIza[\w-]{30,}`,
  String.raw`\bsk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}`,
];
const CERTAIN_ANYWHERE = new RegExp(CERTAIN.join('|'));
/** A whole value that is what stands in an Authorization header. */
const AUTHORIZATION = /^\s*(?:bearer|basic|token)\s+[^\s{}]+\s*$/i;

/** Whether a value looks like a secret rather than the name of one. */
export function looksLikeSecret(value: string): boolean {
  return AUTHORIZATION.test(value);
}

/** Where in a whole file, comments included, a secret seems to stand. */
export function secretInText(text: string): number | undefined {
  return CERTAIN_ANYWHERE.exec(text)?.index;
}
