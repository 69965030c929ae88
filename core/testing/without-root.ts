import { givesUpRoot } from '../mesh-user.ts';

/** For tests of what parts may no longer do once they have given root up. Where only root can read this installation, they stay root. */
export const WHERE_ROOT_IS_GIVEN_UP = {
  skip: givesUpRoot('auto') ? false : 'needs root, and an installation that others can read',
};
