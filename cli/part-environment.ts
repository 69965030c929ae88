import { namedInSection } from '#core/config';

type Env = Readonly<Record<string, string | undefined>>;

/** What any part may need: where programs, directories and certificates are, the locale, and our own configuration. */
const COMMON =
  /^(PATH|HOME|USER|LOGNAME|TMPDIR|TZ|TERM|NO_COLOR|LANG|LC_\w+|XDG_\w+|NODE_\w+|SSL_CERT_\w+|OUTRIDER_(UP|GATEWAY|SERVER|RUNNER|SIDECAR|PROXY|RUNTIME|STATE)_\w+)$/;

/**
 * The environment that a part is started with. The proxy gets the whole, because a `secretRef: env:NAME` names a variable of it;
 * every other part gets the common ones and those that its own section of the configuration file names as `${NAME}`, so that no credential of the
 * operator's shell reaches a process that has no use for it.
 */
export function partEnvironment(part: string, env: Env, configText = ''): Env {
  if (part === 'proxy') return env;
  const named = namedInSection(configText, part);
  return Object.fromEntries(
    Object.entries(env).filter(([name]) => COMMON.test(name) || named.has(name)),
  );
}
