import { recoveryContract } from '../../gateway/recovery/contract.ts';
import { startRedis } from '../support/redis-with-password.ts';

recoveryContract(startRedis);
